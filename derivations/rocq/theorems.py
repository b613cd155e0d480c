"""The theorems of the hand-written files, the claims they are the whole sentence of, and the axioms allowed."""

# In the order in which they are compiled; Traced.v is written from the code.
THEORIES = (
    "Sums",
    "Preferences",
    "SimPO",
    "Inverse",
    "Master",
    "Convex",
    "MaxEnt",
    "Retention",
    "Traced",
    "Code",
    "Regularizers",
)

# The top theorems, whose assumptions are printed and compared with AXIOMS.
THEOREMS: dict[str, tuple[str, ...]] = {
    "Preferences": ("pl_shift", "pl_pair"),
    "SimPO": ("simpo_is_maximum_entropy", "residual_as_written"),
    "Master": (
        "master_theorem",
        "stationary_is_optimal",
        "stationary_exists",
        "optimal_is_stationary",
        "every_interior_policy_is_optimal",
    ),
    "Convex": ("convex_slope", "master_theorem_convex"),
    "MaxEnt": ("dpo_is_kl_regularized", "maxent_is_maximum_entropy"),
    "Retention": (
        "retention_steps",
        "pressure",
        "pressure_unregularized",
        "kl_keeps",
        "entropy_forgets",
        "path_solves",
        "path_starts",
        "retention_flow",
    ),
    "Code": (
        "code_pair_loss_is_smoothed_rao_kupper",
        "code_maxent_is_bradley_terry",
        "code_dpo_is_published",
        "code_simpo_is_published",
        "ranking_loss_rows",
        "maxent_rows",
        "dpo_rows",
        "simpo_rows",
        "maxent_pl_rows",
        "dpo_pl_rows",
        "simpo_pl_rows",
        "code_shaped_reward_is_that_of_retention",
        "code_simpo_is_maximum_entropy",
        "code_dpo_is_kl_regularized",
    ),
    "Regularizers": (
        "code_entropic",
        "entropic_derivative",
        "entropic_convex",
        "entropic_barrier",
        "master_theorem_entropic",
        "code_forward_slope",
        "forward_derivative",
        "master_theorem_forward_kl",
    ),
}

ENTROPIC = ("Regularizers.code_entropic", "Regularizers.entropic_derivative", "Regularizers.master_theorem_entropic")
# Claims whose sentence, argued steps included, a theorem proves for every finite Y.
BY_CLAIM: dict[str, tuple[str, ...]] = {
    "implicit-reward-entropy": ENTROPIC,
    "implicit-reward-kl": ENTROPIC,
    "implicit-reward-length-normalized": ENTROPIC,
    "implicit-reward-length-normalized-shannon": ENTROPIC,
    "implicit-reward-forward-kl": (
        "Regularizers.code_forward_slope",
        "Regularizers.forward_derivative",
        "Regularizers.master_theorem_forward_kl",
    ),
    "master-theorem": (
        "Convex.master_theorem_convex",
        "Master.optimal_is_stationary",
        "Master.every_interior_policy_is_optimal",
    ),
    "maxent-optimal-policy": ("MaxEnt.maxent_is_maximum_entropy",),
    "maxent-bradley-terry": ("MaxEnt.maxent_is_maximum_entropy",),
    "length-normalized-temperature": ("SimPO.residual_as_written",),
    "repair-generalized": ("Code.code_simpo_is_maximum_entropy",),
    "retention-law": ("Retention.retention_flow", "Code.code_shaped_reward_is_that_of_retention"),
    "retention-discrete": ("Retention.retention_steps", "Retention.pressure"),
}

# The classical reals of the standard library, and nothing else.
AXIOMS = frozenset(
    {
        "ClassicalDedekindReals.sig_forall_dec",
        "ClassicalDedekindReals.sig_not_dec",
        "FunctionalExtensionality.functional_extensionality_dep",
        "Classical_Prop.classic",
    }
)
