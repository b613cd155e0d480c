"""One file a chapter; a chapter registers its claims when it is imported. In the order a reader meets them."""

CHAPTERS = {
    "regularizers": "The implicit reward of each regularizer",
    "implicit_reward": "One idea: the implicit reward",
    "maxent": "Maximum-entropy RL and its preferences",
    "simpo": "From maximum entropy to SimPO",
    "margins": "What the margin means, and what it costs",
    "rankings": "Rankings",
    "losses": "The named losses",
    "preference_losses": "Preference losses asked for by name",
    "names": "What a name computes",
    "options": "What a name takes",
    "calls": "The calls that programs make",
    "gradients": "Gradients and optima of the losses",
    "slopes": "Slopes for descent without automatic differentiation",
    "estimators": "Policy-gradient and KL estimators",
    "off_policy": "Policy gradients off-policy",
    "tokens": "Tokens and sequences",
    "dynamics": "Online dynamics: forgetting the reference",
    "turning": "When gold turns down",
    "offline": "Offline dynamics: what the data does not touch",
    "goodhart": "Best-of-n and Goodhart's law",
}
