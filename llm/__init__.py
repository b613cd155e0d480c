"""The language model: the objectives of `derivations` on transformers, from one CPU to many GPUs.

    scoring        log-probs of responses: packing, attention, the head in chunks, models, export      (the hot path)
    sampling       exact sampling, the pool of reference samples, gold rewards, topics
    engine         devices, precision, processes, the optimizer step, sharding, checkpoints, run folders
    data           preference files, their row formats, chat templates, tokens, the data set of a run
    settings       one dataclass of options per command; recipes; the plan of memory and time
    offline        `python -m llm train`: any pairwise or listwise objective on comparisons
    online         `python -m llm online`: policy gradient against a proxy reward, with any regularizer
    experiments    `make reproduce-offline`, `make reproduce-online`: protocols, results, reports

Public names load on first use; nothing here loads torch before:

>>> from llm import Example
>>> Example(prompt=(1, 2), response=(3,), complete=True)
Example(prompt=(1, 2), response=(3,), complete=True)
"""

from derivations.cli.public import lazy

PUBLIC = {
    "llm.scoring.packing": ("Example",),
    "llm.scoring.logprobs": ("sequence_logps",),
    "llm.scoring.models": ("load_model",),
    "llm.sampling.sampler": ("sample",),
    "llm.settings.train": ("TrainConfig",),
    "llm.settings.online": ("OnlineConfig",),
    "llm.offline.train": ("train",),
}
__all__, __getattr__ = lazy(__name__, PUBLIC)
