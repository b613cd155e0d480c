"""Build the distribution `maxent-rlhf-llm` from this folder; never over another package named `llm`."""

import sys
import sysconfig
from pathlib import Path

from setuptools import find_packages, setup  # type: ignore[import-untyped]

site = Path(sysconfig.get_path("purelib"))
if found := sorted(site.glob("llm-*.dist-info")):
    sys.exit(
        f"another package named `llm` is installed here ({found[0].name}) and would be overwritten: "
        "use an environment without it, or run `python -m llm` from a checkout"
    )
setup(
    packages=["llm", *(f"llm.{name}" for name in find_packages())],
    package_dir={"llm": "."},
    script_name="setup.py",  # so that it is left out, as a build through pip would not
    include_package_data=False,
)
