"""Preference-optimization objectives: every formula once, and the proofs about them.

THE FORMULAS (array API: NumPy, torch and symbols run the same functions; nothing here loads SymPy or torch)
    regularizers   phi, its implicit reward s = phi', its slope: entropy, KL, length-normalized, f-divergences, sums
    preferences    Bradley-Terry, Rao-Kupper, Plackett-Luce: log P(observed preference | rewards)
    objectives     offline losses, online shaped rewards, advantages, KL estimators, preference metrics
    preference_losses  published losses of pairs (and KTO's of single responses) that people ask for by name
    slopes         of the losses in the implicit rewards, for descent without automatic differentiation
    preference_slopes  of the published losses in the log-probs, for the same
    advantages     several samples of one prompt: minus the group's mean, and GRPO's division by its deviation
    tokens         entropy of the next token, its gradient, soft value
    best_of_n      how far the best of n samples is from the policy it samples
    retention      how much of the reference a policy keeps: the law and the fit
    arrays         log_sigmoid, logsumexp, masked_sum: the only functions that branch; log_softmax
    names          text -> regularizer or objective ("entropy=0.5+kl=0.1", "simpo")
    published      name -> published loss with its options, its slopes and its rewards ("orpo", "chi-po", "kto")

THE PACKAGES AROUND THEM
    proofs         one chapter of claims per file; `python -m derivations check`
    prover         what decides a claim: symbols, tracing, the zero test, balls, mutants, verdicts
    custom         `derive`: from a regularizer of your own to its implicit reward and losses
    pages          claims as text, Markdown, JUnit, a book and a graph
    rocq           theorems and identities checked by Rocq's kernel; `make rocq`
    conformance    is a loss what it is named after? `python -m derivations conform FILE:FUNCTION --objective simpo`
    evidence       claims that are measured: intervals, verdicts, protocols, results
    cli            errors, files, command lines, run folders

Public names load on first use:

>>> from derivations import make_objective
>>> make_objective("simpo", beta=2.0, gamma=0.5).regularizer.name
'length-normalized'
"""

from derivations.cli.public import lazy

PUBLIC = {
    "derivations.regularizers": (
        "Regularizer",
        "Entropy",
        "KL",
        "LengthNormalized",
        "LengthNormalizedShannon",
        "ForwardKL",
        "JensenShannon",
        "AlphaDivergence",
        "Sum",
    ),
    "derivations.preferences": ("bradley_terry", "rao_kupper", "plackett_luce"),
    "derivations.objectives": (
        "Objective",
        "pair_loss",
        "ranking_loss",
        "dpo",
        "simpo",
        "maxent",
        "ipo_loss",
        "shaped_reward",
        "rloo_advantage",
        "kl_estimate",
        "preference_metrics",
    ),
    "derivations.retention": ("retention_law", "fit_retention", "bootstrap_retention"),
    "derivations.names": ("make_objective", "parse_regularizer"),
    "derivations.custom.derive": ("derive",),
    "derivations.prover.claims": ("load_claims", "check_claim"),
}
__all__, __getattr__ = lazy(__name__, PUBLIC)
