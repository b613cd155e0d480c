"""The names of objectives: a call by name, on a batch, computes the published formula."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from types import ModuleType
from typing import Any

import sympy as sp

from derivations.names import OBJECTIVES, make_objective
from derivations.proofs.symbols import alpha, beta, epsilon_odds, gamma, order
from derivations.prover.claims import claim
from derivations.prover.kinds import Equal, Step
from derivations.prover.tracing import traced_array

Response = tuple[sp.Expr, sp.Expr, sp.Expr]  # log pi, length, log q
ROWS = 2  # examples in a batch: a mistaken axis mixes them
SMOOTHING = 1 / (2 + epsilon_odds)  # any share of flipped labels below 1/2
DIVERGENCES = ("kl", "forward-kl", "jensen-shannon", "alpha-divergence")
# name -> strength, options; written down here so that a change of the code's own table does not change what is asked of it
TABLE: dict[str, tuple[str, frozenset[str]]] = {
    "dpo": ("beta", frozenset()),
    "cdpo": ("beta", frozenset({"label_smoothing"})),
    "ipo": ("beta", frozenset()),
    "f-dpo": ("beta", frozenset({"divergence", "order", "label_smoothing"})),
    "simpo": ("beta", frozenset({"gamma", "label_smoothing"})),
    "simpo-shannon": ("beta", frozenset({"gamma", "label_smoothing"})),
    "maxent": ("alpha", frozenset({"gamma", "label_smoothing"})),
    "dpo-pl": ("beta", frozenset({"top"})),
    "f-dpo-pl": ("beta", frozenset({"divergence", "order", "top"})),
    "simpo-pl": ("beta", frozenset({"top"})),
    "simpo-shannon-pl": ("beta", frozenset({"top"})),
    "maxent-pl": ("alpha", frozenset({"top"})),
}
VALUES: dict[str, Any] = {
    "alpha": alpha, "beta": beta, "gamma": gamma, "label_smoothing": SMOOTHING, "order": order, "top": 2,
}  # fmt: skip


def implicit(kind: str, strength: sp.Expr, response: Response, a: sp.Expr) -> sp.Expr:
    """s by hand, up to a constant, under the regularizer that a name means; a: the order."""
    logp, length, ref = response
    log_u = logp - ref
    return {
        "none": sp.S.Zero,
        "entropy": strength * logp,
        "kl": strength * log_u,
        "length-normalized": strength / length * logp,
        "length-normalized-shannon": strength / length * (logp + 1),
        "forward-kl": -strength * sp.exp(-log_u),
        "jensen-shannon": strength * (sp.log(2) + log_u - sp.log(1 + sp.exp(log_u))),
        "alpha-divergence": strength * (1 - sp.exp(-a * log_u)) / a,
    }[kind]


KINDS = {"dpo": "kl", "cdpo": "kl", "ipo": "kl", "simpo": "length-normalized", "maxent": "entropy"}
KINDS |= {"simpo-shannon": "length-normalized-shannon"}


def batch(m: int) -> list[list[Response]]:
    """ROWS examples of m responses, every number a symbol of its own."""
    return [
        [
            (
                sp.Symbol(f"logp_{row}{k}", real=True),
                sp.Symbol(f"len_{row}{k}", positive=True, integer=True),
                sp.Symbol(f"ref_{row}{k}", real=True),
            )
            for k in range(1, m + 1)
        ]
        for row in range(1, ROWS + 1)
    ]


def column(rows: list[list[Response]], which: int) -> list[list[sp.Expr]]:
    """One of the three arrays of a batch."""
    return [[response[which] for response in row] for row in rows]


def by_hand(name: str, s: list[sp.Expr], options: dict[str, Any], strength: sp.Expr) -> sp.Expr:
    """The loss of one example, from implicit rewards with the preferred response first."""
    m = len(s)
    if name == "ipo":
        return ((s[0] - s[1]) / strength - 1 / (2 * strength)) ** 2
    if name.endswith("-pl"):
        places = range(options.get("top", m - 1))
        return sum(sp.log(1 + sum(sp.exp(s[j] - s[k]) for j in range(k + 1, m))) for k in places)
    margin = s[0] - s[1] - options.get("gamma", 0)
    eps = options.get("label_smoothing", sp.S.Zero)
    return (1 - eps) * sp.log(1 + sp.exp(-margin)) + eps * sp.log(1 + sp.exp(margin))


def named(name: str, m: int, options: dict[str, Any]) -> list[Step]:
    """One call by name on a batch, row by row."""
    strength = VALUES[TABLE[name][0]]
    objective = make_objective(name, **{TABLE[name][0]: strength}, **options)
    rows = batch(m)
    rewards = traced_array(objective.rewards, column(rows, 0), length=column(rows, 1), ref_logp=column(rows, 2))
    losses = traced_array(objective.loss, rewards).values.reshape(ROWS)  # any other shape is a mistake
    kind = options.get("divergence") or KINDS[name.removesuffix("-pl")]
    a = options.get("order", sp.Rational(1, 2))  # the default that the documentation gives
    told = ", ".join(f"{option} {value}" for option, value in options.items()) or "defaults"
    return [
        Equal(
            f"{name}, {m} responses, {told}, row {i + 1}",
            losses[i],
            by_hand(name, [implicit(kind, strength, response, a) for response in row], options, strength),
            unit=frozenset({order}),
        )
        for i, row in enumerate(rows)
    ]


def settings(name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """How many responses, and with which options: none that can be left out, then all."""
    takes = TABLE[name][1]
    needed = {"label_smoothing": SMOOTHING} if name == "cdpo" else {}
    extra = {option: VALUES[option] for option in sorted(takes & {"gamma", "label_smoothing"})}
    sizes: tuple[tuple[int, dict[str, Any]], ...] = ((2, {}),)
    if "top" in takes:
        sizes = ((3, {}),) if name == "f-dpo-pl" else ((4, {}),)
        if name in ("simpo-pl", "dpo-pl"):
            sizes = (*sizes, (4, {"top": 2}))
    for divergence in DIVERGENCES if "divergence" in takes else ("",):
        choice = {"divergence": divergence} if divergence else {}
        for m, top in sizes:
            yield m, choice | needed | top
        if extra and extra != needed:
            yield sizes[0][0], choice | extra
        if divergence == "alpha-divergence":
            yield sizes[0][0], choice | {"order": order}


def functions_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions that a module defines under a name of its own, as `module.function`."""
    short = module.__name__.rpartition(".")[2]
    own = inspect.getmembers(module, inspect.isfunction)
    return {f"{short}.{name}": f for name, f in own if f.__module__ == module.__name__ and not name.startswith("_")}


def require_rows(names: Iterable[str], rows: Collection[str], table: str) -> None:
    """Raise LookupError for a name of the code that a table here has no row for: it would be decided by silence."""
    if missing := [name for name in names if name not in rows]:
        raise LookupError(f"{', '.join(missing)}: no row in {table}")


def steps_of(names: list[str]) -> list[Step]:
    require_rows(OBJECTIVES, TABLE, "TABLE of derivations/proofs/names.py")
    without = [name.removesuffix("-pl") for name in TABLE if "divergence" not in TABLE[name][1]]
    require_rows(without, KINDS, "KINDS of derivations/proofs/names.py")
    return [step for name in names for m, options in settings(name) for step in named(name, m, options)]


@claim(
    "objectives-by-name",
    "A pairwise objective by name, on a batch and with symbolic options, computes the published loss of that name.",
    latex=r"\ell_{\text{name}} = -\log P(\text{observed} \mid r = s)",
    source="THEORY 1, offline reading; the table of named objectives; f-DPO: arXiv:2309.16240; IPO: arXiv:2310.12036",
    scope="batches of two pairs; every strength, margin and order, every smoothing below 1/2; defaults and all options",
    depends_on=("multiplier-cancels",),
)
def objectives_by_name() -> list[Step]:
    return steps_of([name for name in TABLE if not name.endswith("-pl")])


@claim(
    "rankings-by-name",
    "A listwise objective by name, on a batch, computes the published loss of that name, over all places or the first two.",
    latex=r"\ell_{\text{name}} = -\sum_k \Big[s_k - \log\sum_{j \ge k} e^{s_j}\Big]",
    source="THEORY 2.8, SimPO-PL and DPO-PL; the table of named objectives",
    scope="batches of two rankings of 4 responses (f-DPO: 3); every strength and order; top not given, for SimPO and DPO 2 as well",
    depends_on=("multiplier-cancels", "plackett-luce-top-k"),
)
def rankings_by_name() -> list[Step]:
    return steps_of([name for name in TABLE if name.endswith("-pl")])
