"""The exact simulator: a bandit where truth and proxy are both known, and every expectation is a sum.

WHAT IS DRAWN       bandit (worlds, seeds), tree (token tree), data (preference data), proxy (reward models),
                    interventions (gold or penalty on some arms only)
WHAT LEARNS         policies, updates (directions), learners (with their optimizers), online (policy gradient),
                    offline (descent on preference data), optimum (the exact maximizer of any regularizer)
WHAT IS SEEN        metrics, scaling (best-of-n, fits), plots, figures
HOW IT IS RUN       settings, experiment (one run), sweep (grids), cli_run and cli_sweep (the commands)
WHAT WAS FOUND      experiments: the numbered statements by a protocol fixed before the run; docs/toy.md

>>> from toybandit import Settings, run
>>> found = run(Settings(regularizer="kl", coefficient=0.5, seeds=2, steps=10))
>>> found.summary["kl"].mean > 0
True
"""

from derivations.cli.public import lazy

PUBLIC = {
    "toybandit.settings": ("Settings",),
    "toybandit.experiment": ("run", "drawn", "optimize"),
    "toybandit.offline": ("descend",),
}
__all__, __getattr__ = lazy(__name__, PUBLIC)
