"""THEORY 3.3 and 3.5: what sequence-level entropy and optimality look like token by token."""

import itertools

import sympy as sp

from derivations.proofs.symbols import alpha, by_logit, normalized, positives, r, rest
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Iff, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace, traced_array
from derivations.regularizers import Entropy
from derivations.tokens import soft_value, token_entropy, token_entropy_gradient

PREFIXES = ((), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1))  # of a tree with two tokens and depth 3


def entropy_of(policy: list[sp.Expr]) -> sp.Expr:
    """H through the traced regularizer."""
    return -sum(traced_array(Entropy(SymArray(sp.S.One)).phi, [sp.log(pi) for pi in policy]).values)


def conditionals() -> dict[tuple[int, ...], list[sp.Expr]]:
    """Next-token probabilities after every prefix, each from its free odds w : 1."""
    return {prefix: normalized((*positives("w" + "".join(map(str, prefix)), 1), sp.S.One)) for prefix in PREFIXES}


@claim(
    "entropy-chain-rule",
    "The entropy of a sequence is the expected sum of the entropies of its tokens.",
    latex=r"H(\pi) = E_\pi\Big[\sum_t H(\pi(\cdot \mid y_{<t}))\Big]",
    source="THEORY 3.5",
    scope="any tree by one more token (pointwise); two tokens, depth 3 written out",
)
def entropy_chain_rule() -> list[Step]:
    prefix, token = sp.symbols(
        "prob_prefix prob_token", positive=True
    )  # probability of the prefix, and of the next token after it
    joint = prefix * token
    tree = conditionals()
    sequences = list(itertools.product((0, 1), repeat=3))
    probability = {
        prefix: sp.prod([tree[prefix[:i]][token] for i, token in enumerate(prefix)])
        for prefix in (*PREFIXES, *sequences)
    }
    by_token = sum(probability[prefix] * entropy_of(tree[prefix]) for prefix in PREFIXES)
    return [
        Equal(
            "one more token: -p log p of the longer prefix splits into the prefix's and the token's",
            -joint * sp.log(joint),
            token * (-prefix * sp.log(prefix)) + prefix * (-token * sp.log(token)),
        ),
        Argued(
            "summed over the next token: H(prefix and token) = H(prefix) + E[H(token | prefix)]; then by induction",
            by="induction",
            uses=("one more token",),
        ),
        Equal("two tokens, depth 3", entropy_of([probability[sequence] for sequence in sequences]), by_token),
    ]


@claim(
    "token-entropy-drops-prefix",
    "Summing exact per-token entropies over a sampled sequence and differentiating gives the gradient of its entropy.",
    latex=r"\nabla H = E\Big[\sum_t \nabla H_t\Big] + E\Big[\sum_t \nabla\log\pi(y_{<t})\,H_t\Big]",
    source="THEORY 3.3",
    scope="two tokens, depth 2",
    depends_on=("entropy-chain-rule",),
    expected="refuted",
)
def token_entropy_drops_prefix() -> list[Step]:
    first, after_0, after_1 = (positives(name, 2) for name in ("w", "a", "b"))
    pi = normalized(first)
    logits = [sp.log(w) for w in first]
    gradient = traced_array(token_entropy_gradient, logits).values
    later = entropy_of(normalized(after_0)), entropy_of(normalized(after_1))
    total = entropy_of(pi) + pi[0] * later[0] + pi[1] * later[1]
    true = by_logit(total, first[0])
    sampled = sum(pi[i] * by_logit(entropy_of(pi) + later[i], first[0]) for i in range(2))
    dropped = pi[0] * pi[1] * (later[0] - later[1])
    left = sp.symbols("H_after_0 H_after_1", real=True)  # the two remaining entropies
    uniform = dict.fromkeys((*first, *after_0, after_1[0]), sp.S.One)
    return [
        Equal("what is lost: the change of the prefix distribution", true - sampled, dropped),
        Equal("the entropy in it is Shannon's", entropy_of(pi), -sum(x * sp.log(x) for x in pi)),
        Equal("the code's entropy of one token is that entropy", trace(token_entropy, logits), entropy_of(pi)),
        Equal("and the code's gradient is its derivative", gradient[0], by_logit(entropy_of(pi), first[0])),
        Iff(
            "the gradient of its entropy is what summing per-token entropies over a sampled sequence gives",
            true,
            sampled,
            pi[0] * pi[1],
            (left[0] - left[1],),
            {**uniform, after_1[1]: sp.Integer(3)},
            where=dict(zip(left, later, strict=True)),
        ),
    ]


@claim(
    "soft-bellman",
    "The optimal policy over sequences is the soft Bellman policy over tokens: log pi* is the sum of (Q - V) / alpha.",
    latex=r"\log\pi^*(y|x) = \sum_t \frac{Q_t - V_t}{\alpha},\quad V = \alpha\log\sum_a e^{Q(a)/\alpha}",
    hypotheses="constant alpha; reward r at the end of the sequence; deterministic transitions",
    source="THEORY 3.5",
    scope="any finite tree by one step up; two tokens, depth 3 written out",
    depends_on=("maxent-optimal-policy",),
)
def soft_bellman() -> list[Step]:
    q_1, v_0 = sp.symbols("Q_1 V_0", real=True)
    value = alpha * sp.log(sp.exp(q_1 / alpha) + rest)  # V of a node; `rest` are its other tokens
    sequences = list(itertools.product((0, 1), repeat=3))
    rewards = dict(zip(sequences, (alpha * sp.log(w) for w in positives("w", 8)), strict=True))
    values: dict[tuple[int, ...], sp.Expr] = dict(rewards)
    for prefix in sorted(PREFIXES, key=len, reverse=True):
        values[prefix] = trace(soft_value, [values[(*prefix, token)] for token in (0, 1)], alpha=alpha)
    y = sequences[2]
    telescope = sum((values[y[: t + 1]] - values[y[:t]]) / alpha for t in range(3))
    log_z = sp.log(sum(sp.exp(reward / alpha) for reward in rewards.values()))
    return [
        Equal(
            "one step up: e^(V/alpha) is the sum of e^(Q/alpha), so V_0 = alpha log Z by induction",
            sp.exp(value / alpha),
            sp.exp(q_1 / alpha) + rest,
        ),
        Equal("one token: e^((Q - V)/alpha) is its share of the node", sp.exp((q_1 - value) / alpha),
              sp.exp(q_1 / alpha) / (sp.exp(q_1 / alpha) + rest)),
        Equal("the sum telescopes, Q_t = V_{t+1}", (q_1 - v_0) / alpha + (r - q_1) / alpha, (r - v_0) / alpha),
        Equal("two tokens, depth 3: V_0 = alpha log Z", values[()] / alpha, log_z),
        Equal("and the sum is log pi* = r / alpha - log Z", telescope, rewards[y] / alpha - log_z),
    ]  # fmt: skip
