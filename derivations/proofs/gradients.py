"""THEORY 3.1: gradients of the losses, when a minimum exists, and where it lies."""

import functools
import itertools
from collections.abc import Iterator

import sympy as sp

from derivations.objectives import dpo, ipo_loss, maxent, pair_loss, simpo
from derivations.proofs.symbols import (
    alpha,
    any_gamma,
    beta,
    epsilon_odds,
    gamma,
    len_l,
    len_w,
    logp_l,
    logp_w,
    reals,
    ref_l,
    ref_w,
    sigmoid,
    u,
    v,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, EnumeratedIff, Equal, Iff, Positive, Step
from derivations.prover.tracing import trace

Edges = tuple[tuple[int, int], ...]


@claim(
    "loss-gradients",
    "The gradients of the pair losses pull chosen up and rejected down by the wrongly held probability sigma(-m), SimPO's "
    "per token.",
    latex=r"\frac{\partial\ell}{\partial\log\pi(w)} = -\frac{\beta}{|w|}\sigma(-m),\quad "
    r"\frac{\partial\ell}{\partial\log\pi(l)} = \frac{\beta}{|l|}\sigma(-m)",
    source="THEORY 3.1",
    scope="any pair",
    depends_on=("simpo-objective", "dpo-objective"),
)
def loss_gradients() -> list[Step]:
    simpo_loss = trace(simpo, logp_w, logp_l, chosen_length=len_w, rejected_length=len_l, beta=beta, gamma=gamma)
    dpo_loss = trace(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
    maxent_loss = trace(maxent, logp_w, logp_l, alpha=alpha)
    m = beta / len_w * logp_w - beta / len_l * logp_l - gamma
    d = beta * (logp_w - ref_w) - beta * (logp_l - ref_l)
    e = alpha * (logp_w - logp_l)
    return [
        Equal("SimPO, chosen", sp.diff(simpo_loss, logp_w), -beta / len_w * sigmoid(-m)),
        Equal("SimPO, rejected", sp.diff(simpo_loss, logp_l), beta / len_l * sigmoid(-m)),
        Equal("DPO, chosen", sp.diff(dpo_loss, logp_w), -beta * sigmoid(-d)),
        Equal("DPO, rejected", sp.diff(dpo_loss, logp_l), beta * sigmoid(-d)),
        Equal("MaxEnt, chosen", sp.diff(maxent_loss, logp_w), -alpha * sigmoid(-e)),
        Equal("MaxEnt, rejected", sp.diff(maxent_loss, logp_l), alpha * sigmoid(-e)),
    ]


def graphs(nodes: int) -> Iterator[Edges]:
    """Every directed graph on so many responses, without loops: an edge goes from winner to loser."""
    pairs = list(itertools.permutations(range(nodes), 2))
    for chosen in itertools.product((False, True), repeat=len(pairs)):
        yield tuple(pair for pair, taken in zip(pairs, chosen, strict=True) if taken)


def three_or_four() -> Iterator[Edges]:
    """All 64 graphs on three responses and all 4096 on four."""
    yield from graphs(3)
    yield from graphs(4)


def runs_away(edges: Edges) -> bool:
    """Some direction of the scores raises no pair's loss and lowers one's for ever.

    That is: v_w >= v_l for all pairs, once strictly.
    """
    nodes = 1 + max((max(edge) for edge in edges), default=0)
    return any(
        all(level[w] >= level[l] for w, l in edges) and any(level[w] > level[l] for w, l in edges)
        for level in _orders(nodes)
    )


@functools.cache
def _orders(nodes: int) -> list[tuple[int, ...]]:
    """Every order of the nodes, ties allowed, as a level for each: from 0 up, none left out."""
    levels = itertools.product(range(nodes), repeat=nodes)
    return [level for level in levels if set(level) == set(range(1 + max(level)))]


def edge_on_no_cycle(edges: Edges) -> bool:
    """Some edge winner -> loser lies on no directed cycle.

    By search for a way back.
    """
    return any(not _reaches(edges, l, w) for w, l in edges)


def _reaches(edges: Edges, start: int, goal: int) -> bool:
    seen, todo = {start}, [start]
    while todo:
        here = todo.pop()
        for w, l in edges:
            if w == here and l not in seen:
                seen.add(l)
                todo.append(l)
    return goal in seen


def edge_on_no_cycle_by_powers(edges: Edges) -> bool:
    """The same by Warshall's transitive closure."""
    nodes = range(1 + max((max(edge) for edge in edges), default=0))
    reach = {(a, b): (a, b) in edges for a in nodes for b in nodes}
    for via, a, b in itertools.product(nodes, repeat=3):
        reach[a, b] = reach[a, b] or (reach[a, via] and reach[via, b])
    return any(not reach[l, w] for w, l in edges)


def some_set_only_wins(edges: Edges) -> bool:
    """`runs_away` otherwise: a set that no response outside beats, with a win over one outside (its indicator is v)."""
    nodes = 1 + max((max(edge) for edge in edges), default=0)
    for inside in itertools.product((False, True), repeat=nodes):
        if all(inside[w] or not inside[l] for w, l in edges) and any(inside[w] and not inside[l] for w, l in edges):
            return True
    return False


def has_no_cycle_at_all(edges: Edges) -> bool:
    return runs_away(edges) == all(not _reaches(edges, l, w) for w, l in edges)


def has_an_unbeaten_response(edges: Edges) -> bool:
    return runs_away(edges) == bool({w for w, _ in edges} - {l for _, l in edges})


@claim(
    "loss-has-minimum",
    "On a data set over three or four responses the loss has no minimum if and only if some edge winner -> loser lies on "
    "no directed cycle.",
    latex=r"\inf \text{ unattained} \iff \exists\, (w \to l) \text{ on no directed cycle}",
    hypotheses="free scores (tabular policy); losses -log sigma(s_w - s_l), summed over the pairs seen",
    source="THEORY 3.1",
    scope="every comparison graph on 3 and 4 responses enumerated; more responses by the argument in the last words",
    depends_on=("plackett-luce-convex",),
    expected="iff",
)
def loss_has_minimum() -> list[Step]:
    a, b, c = reals("s", 3)
    cycle = trace(pair_loss, a, b) + trace(pair_loss, b, c) + trace(pair_loss, c, a)
    zero = dict.fromkeys((a, b, c), sp.S.Zero)
    d = sp.Symbol("d", real=True)
    return [
        Argued(
            "a sum of convex, strictly decreasing functions of s_w - s_l, bounded below, has no minimum exactly if some "
            "direction has v_w >= v_l for every pair, and > for one: along it the sum falls for ever; without one its "
            "level sets are bounded, up to shifts that change no difference",
            by="recession",
            uses=("plackett-luce-convex", "one pair: -log sigma(d) falls"),
        ),
        EnumeratedIff(
            "such a direction exists exactly if an edge lies on no cycle: all graphs on three and four responses",
            three_or_four,
            {"no cycle at all": has_no_cycle_at_all, "an unbeaten response": has_an_unbeaten_response},
            left=runs_away,
            right=edge_on_no_cycle,
            left_again=some_set_only_wins,
            right_again=edge_on_no_cycle_by_powers,
        ),
        Argued(
            "more responses: along a cycle all v are equal; and if an edge lies on none, level the strongly connected "
            "parts in topological order",
            by="recession",
            uses=("a sum of convex, strictly decreasing",),
        ),
        Positive("one pair: -log sigma(d) falls for ever", -sp.diff(trace(pair_loss, d, sp.S.Zero), d)),
        Equal("a > b > c > a: stationary at equal scores", sp.diff(cycle, a), sp.S.Zero, zero),
        Equal("with value 3 log 2", cycle, 3 * sp.log(2), zero),
    ]


@claim(
    "label-smoothing",
    "Label smoothing flips the sign of the whole argument m = d - gamma; its optimum is m = log((1 - eps) / eps).",
    latex=r"\ell = -(1-\epsilon)\log\sigma(m) - \epsilon\log\sigma(-m),\quad m^* = \log\frac{1-\epsilon}{\epsilon}",
    hypotheses="0 < eps < 1/2, written eps = 1 / (1 + k) with odds k > 1",
    source="THEORY 3.1; TRL's convention",
    scope="any pair",
)
def label_smoothing() -> list[Step]:
    d = sp.Symbol("d", real=True)
    eps = 1 / (1 + epsilon_odds)
    loss = trace(pair_loss, d, sp.S.Zero, gamma=gamma, label_smoothing=eps)
    m = d - gamma
    return [
        Equal("the formula", loss, (1 - eps) * sp.log(1 + sp.exp(-m)) + eps * sp.log(1 + sp.exp(m))),
        Equal("slope sigma(m) - (1 - eps)", sp.diff(loss, d), sigmoid(m) - (1 - eps)),
        Equal("stationary at m = log k", sp.diff(loss, d), sp.S.Zero, {d: gamma + sp.log(epsilon_odds)}),
        Positive("and convex", sp.diff(loss, d, 2)),
    ]


@claim(
    "label-smoothing-likelihood",
    "A smoothed margin loss is the Rao-Kupper likelihood of labels of which a share eps was flipped.",
    latex=r"\log\sigma(-d+\gamma) \ne \log\sigma(-d-\gamma)",
    source="THEORY 3.1; TRL's convention",
    scope="any pair",
    depends_on=("label-smoothing", "margin-rao-kupper"),
    expected="refuted",
)
def label_smoothing_likelihood() -> list[Step]:
    theta = sp.exp(gamma)
    eps = 1 / (1 + epsilon_odds)
    pair = (sp.log(u), sp.log(v))
    loss = trace(pair_loss, *pair, gamma=gamma, label_smoothing=eps)
    flipped_pair = trace(pair_loss, *reversed(pair), gamma=gamma)  # -log P(l > w), margin against the loser
    likelihood = (1 - eps) * trace(pair_loss, *pair, gamma=gamma) + eps * flipped_pair
    used = theta * v / (u + theta * v)  # sigma(-d + gamma)
    true = v / (v + theta * u)  # sigma(-d - gamma)
    shared = u * v / ((u + theta * v) * (v + theta * u))
    return [
        Equal("the two differ by eps (log true - log used)", loss - likelihood, eps * (sp.log(true) - sp.log(used))),
        Positive("eps > 0, and log is strictly increasing: they agree where used = true", eps),
        Iff(
            "the chance of a flipped label, used and true: the smoothed margin loss is the Rao-Kupper likelihood",
            sp.exp(-trace(pair_loss, *pair, gamma=any_gamma, label_smoothing=1)),
            sp.exp(-trace(pair_loss, *reversed(pair), gamma=any_gamma)),
            ((theta + 1) * shared).subs(gamma, any_gamma),
            (sp.exp(any_gamma) - 1,),
            {any_gamma: 1, u: 2, v: 1},
        ),
    ]


@claim(
    "ipo-optimum",
    "IPO has its optimum at log-ratio difference 1 / (2 beta) for one pair, and at the least-squares fit for a > b > c, a > c.",
    latex=r"h^* = \frac{1}{2\beta};\quad a \succ b \succ c,\ a \succ c:\ h_{ab} = h_{bc} = \tfrac23\cdot\tfrac1{2\beta}",
    source="THEORY 3.1; arXiv:2310.12036",
    scope="one pair; three pairs written out",
    depends_on=("ipo-objective",),
)
def ipo_optimum() -> list[Step]:
    h, x, y = sp.symbols("h h_ab h_bc", real=True)

    def loss(difference: sp.Expr) -> sp.Expr:
        return trace(ipo_loss, beta * difference, sp.S.Zero, beta=beta)

    chain = loss(x) + loss(y) + loss(x + y)
    target = 1 / (2 * beta)
    fit = {x: 2 * target / 3, y: 2 * target / 3}
    return [
        Equal("slope of one pair", sp.diff(loss(h), h), 2 * (h - target)),
        Equal("zero at h = 1 / (2 beta)", sp.diff(loss(h), h), sp.S.Zero, {h: target}),
        Positive("a minimum", sp.diff(loss(h), h, 2)),
        Equal("a > b, b > c, a > c: normal equation", sp.diff(chain, x), sp.S.Zero, fit),
        Equal("and the other", sp.diff(chain, y), sp.S.Zero, fit),
        Positive("what is left there is not 0: the three wishes contradict each other", chain.subs(fit)),
    ]
