"""What a call leaves out: defaults of the ground floor's functions, and the losses that a published name stands for."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from derivations import (
    advantages,
    arrays,
    objectives,
    off_policy,
    preference_losses,
    preference_slopes,
    preferences,
    slopes,
)
from derivations.proofs import unpaired_by_name as of_one
from derivations.proofs.names import functions_of, require_rows
from derivations.prover.claims import claim
from derivations.prover.kinds import Enumerated, Step
from derivations.published import PUBLISHED, make_published
from derivations.regularizers import AlphaDivergence

# function -> what its documentation says of each argument that can be left out
DEFAULTS: dict[str, dict[str, Any]] = {
    "advantages.standardized": {"epsilon": 1e-4, "population": False},
    "arrays.logsumexp": {"axis": -1},
    "arrays.masked_sum": {"axis": -1},
    "objectives.pair_loss": {"gamma": 0.0, "label_smoothing": 0.0},
    "objectives.ranking_loss": {"top": None},
    "objectives.simpo": {"gamma": 0.0},
    "objectives.shaped_reward": {"length": None, "ref_logp": None},
    "off_policy.clipped_surrogate": {"epsilon_high": None},
    "off_policy.clip": {"epsilon_high": None},
    "off_policy.ppo_clip": {"epsilon": 0.2, "epsilon_high": None},
    "off_policy.grpo": {"epsilon": 0.2, "epsilon_high": None, "per_length": True},
    "off_policy.gspo": {"epsilon": 3e-4, "epsilon_high": None},
    "off_policy.cispo": {"epsilon": 1.0, "epsilon_high": 4.0},
    "off_policy.rloo_ratio": {"epsilon": None, "epsilon_high": None},
    "off_policy.reduced": {"denominator": None},
    "preference_losses.kto": {"desirable_weight": 1.0, "undesirable_weight": 1.0},
    "preference_losses.dpop": {"penalty": 50.0},
    "preference_slopes.dpop": {"penalty": 50.0},
    "preference_slopes.kto": {"desirable_weight": 1.0, "undesirable_weight": 1.0},
    "preferences.plackett_luce": {"top": None},
    "slopes.pair_slope": {"gamma": 0.0, "label_smoothing": 0.0},
    "slopes.ranking_slope": {"top": None},
    "regularizers.AlphaDivergence": {"order": 0.5},
}
MODULES = (advantages, arrays, objectives, off_policy, preference_losses, preference_slopes, preferences, slopes)
Default = tuple[str, str, Any]


def defaults() -> Iterator[Default]:
    """(function, argument, its default) of every argument that can be left out; a row too many breaks the proof off."""
    found: list[Default] = [("regularizers.AlphaDivergence", "order", AlphaDivergence(1.0).order)]
    for module in MODULES:
        for name, function in functions_of(module).items():
            options = inspect.signature(function).parameters.values()
            found += [(name, p.name, p.default) for p in options if p.default is not inspect.Parameter.empty]
    require_rows([f"{name}({option})" for name in DEFAULTS for option in DEFAULTS[name]],
                 {f"{name}({option})" for name, option, _ in found}, "the code: DEFAULTS has them")  # fmt: skip
    yield from found


def as_documented(case: Default) -> bool:
    name, option, default = case
    return option in DEFAULTS.get(name, {}) and default == DEFAULTS[name][option]


def by_option(case: Default) -> bool:
    """The same by option: what it is wherever nothing else is said."""
    name, option, default = case
    if option.endswith("epsilon"):
        special = {"standardized": 1e-4, "gspo": 3e-4, "cispo": 1.0, "rloo_ratio": None}
        return default == special.get(name.partition(".")[2], 0.2)
    if option == "epsilon_high":
        return default == (4.0 if "cispo" in name else None)
    usual = {
        "axis": -1,
        "gamma": 0,
        "label_smoothing": 0,
        "penalty": 50,
        "per_length": True,
        "population": False,
        "order": 0.5,
    }
    return default == (1 if option.endswith("desirable_weight") else usual.get(option))


def nothing(case: Default) -> bool:
    return case[2] is None or not case[2]


PAIR = {"logp": np.array([[-1.2, -2.5]]), "length": np.array([[3.0, 5.0]]), "ref_logp": np.array([[-1.7, -1.4]])}
W, L, REF_W, REF_L, N_W, N_L = -1.2, -2.5, -1.7, -1.4, 3, 5
# name -> the function of that name, and the strengths that a name alone stands for
STANDS_FOR: dict[str, tuple[Callable[..., Any], dict[str, float]]] = {
    "orpo": (preference_losses.orpo, {"beta": 0.1}),
    "dpop": (preference_losses.dpop, {"beta": 0.1}),
    "apo-zero": (preference_losses.apo_zero, {"beta": 0.1}),
    "apo-down": (preference_losses.apo_down, {"beta": 0.1}),
    "slic": (preference_losses.slic, {"beta": 0.1}),
    "chi-po": (preference_losses.chi_po, {"beta": 0.1}),
    "r-dpo": (preference_losses.r_dpo, {"beta": 0.1, "alpha": 0.05}),
    "ln-dpo": (preference_losses.ln_dpo, {"beta": 5.0}),
    "wpo": (preference_losses.wpo, {"beta": 0.1}),
    "sppo": (preference_losses.sppo, {"beta": 0.001}),
}
BY_NAME = {
    "chosen_logp": PAIR["logp"][:, 0], "rejected_logp": PAIR["logp"][:, 1],
    "chosen_length": PAIR["length"][:, 0], "rejected_length": PAIR["length"][:, 1],
    "ref_chosen_logp": PAIR["ref_logp"][:, 0], "ref_rejected_logp": PAIR["ref_logp"][:, 1],
}  # fmt: skip


class Named(NamedTuple):
    """A loss by name with options; what was found of it: the loss, its two slopes, the difference of its rewards, and
    whether it asks for a reference."""

    name: str
    options: dict[str, float]
    loss: float
    slopes: tuple[float, float]
    lead: float
    needs_reference: bool


def published() -> Iterator[Named]:
    """Each name as it stands, and with every option that it takes given."""
    require_rows(PUBLISHED, STANDS_FOR, "STANDS_FOR of derivations/proofs/defaults.py")
    for name, (_, strengths) in STANDS_FOR.items():
        given = {option: 2 * value for option, value in strengths.items()} | (
            {"penalty": 7.0} if name == "dpop" else {}
        )
        for options in ({}, {"beta": 0.3}, given):
            made = make_published(name, **options)
            (loss,), (both,), (rewards,) = made.losses(**PAIR), made.slopes(**PAIR), made.rewards(**PAIR)
            lead = float(rewards[0] - rewards[1])
            yield Named(
                name, options, float(loss), (float(both[0]), float(both[1])), lead, made.regularizer.needs_reference
            )


def as_the_function(case: Named) -> bool:
    """The function called with arguments by name; the slopes by differences of it."""
    function, strengths = STANDS_FOR[case.name]
    takes = inspect.signature(function).parameters
    given = {key: value for key, value in BY_NAME.items() if key in takes}
    options = strengths | case.options
    right = [float(function(**given, **options)[0])]
    weight = np.exp(W / N_W + L / N_L) if case.name == "wpo" else 1.0  # held constant: taken out before the difference
    for side in ("chosen_logp", "rejected_logp"):
        ends = []
        for step in (1e-6, -1e-6):
            moved = float(function(**{**given, side: given[side] + step}, **options)[0])
            ends.append(moved / (np.exp((W + step) / N_W + L / N_L if side[0] == "c" else W / N_W + (L + step) / N_L)
                                 if case.name == "wpo" else 1.0))  # fmt: skip
        right.append(float(weight) * (ends[0] - ends[1]) / 2e-6)
    close = abs(case.loss - right[0]) <= 1e-12 * (1 + abs(right[0]))
    slopes_close = np.allclose(case.slopes, right[1:], rtol=1e-6, atol=1e-8)
    if case.name in {"chi-po", "r-dpo", "ln-dpo"}:  # likelihoods of their rewards
        close = close and bool(np.isclose(case.loss, np.logaddexp(0, -case.lead), rtol=1e-12))
    return close and bool(slopes_close) and case.needs_reference == ("ref_chosen_logp" in takes)


def as_published(case: Named) -> bool:
    """The published formula in numbers, and which strengths stand for what is not given."""
    usual = {"r-dpo": 0.1, "ln-dpo": 5.0, "sppo": 1 / 1000}
    beta = case.options.get("beta", usual.get(case.name, 0.1))
    alpha, penalty = case.options.get("alpha", 1 / 20), case.options.get("penalty", 50.0)
    h_w, h_l = W - REF_W, L - REF_L

    def minus_log_sigma(x: float) -> float:
        return math.log(1 + math.exp(-x))

    def sigma(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    def odds(mean: float) -> float:
        return mean - math.log(1 - math.exp(mean))

    right = {
        "orpo": lambda: -W / N_W + beta * minus_log_sigma(odds(W / N_W) - odds(L / N_L)),
        "dpop": lambda: minus_log_sigma(beta * (h_w - h_l - penalty * max(0.0, -h_w))),
        "apo-zero": lambda: 1 - sigma(beta * h_w) + sigma(beta * h_l),
        "apo-down": lambda: sigma(beta * h_w) + 1 - sigma(beta * (h_w - h_l)),
        "slic": lambda: max(0.0, 1 - beta * (h_w - h_l)),
        "chi-po": lambda: minus_log_sigma(beta * (h_w + math.exp(h_w) - h_l - math.exp(h_l))),
        "r-dpo": lambda: minus_log_sigma(beta * (h_w - h_l) + alpha * (N_W - N_L)),
        "ln-dpo": lambda: minus_log_sigma(beta * (h_w / N_W - h_l / N_L)),
        "wpo": lambda: math.exp(W / N_W + L / N_L) * minus_log_sigma(beta * (h_w - h_l)),
        "sppo": lambda: (h_w - 1 / (2 * beta)) ** 2 + (h_l + 1 / (2 * beta)) ** 2,
    }[case.name]()
    leads = {
        "orpo": beta * (W / N_W - L / N_L),
        "chi-po": beta * (h_w + math.exp(h_w) - h_l - math.exp(h_l)),
        "r-dpo": beta * (h_w - h_l) + alpha * (N_W - N_L),
        "ln-dpo": beta * (h_w / N_W - h_l / N_L),
    }
    close = math.isclose(case.loss, right, rel_tol=1e-9) and math.isclose(
        case.lead, leads.get(case.name, beta * (h_w - h_l)), rel_tol=1e-9
    )
    return close and case.needs_reference == (case.name != "orpo")


def with_usual(case: Named) -> bool:
    return as_published(case._replace(options={}))


REFUSED = ((-0.1, False), (float("nan"), False), (float("inf"), False), (0.0, None), (0.2, True), (None, True))
Refusal = tuple[str, str, Any, bool]


def refusable() -> Iterator[Refusal]:
    """(name, option, value, whether it is accepted)."""
    for name in STANDS_FOR:
        for option in ("beta", "alpha", "penalty", "gamma"):
            for value, _ in REFUSED:
                try:
                    make_published(name, **{option: value})
                except ValueError:
                    yield name, option, value, False
                else:
                    yield name, option, value, True


def in_table(case: Refusal) -> bool:
    name, option, value, accepted = case
    takes = {"beta"} | {"r-dpo": {"alpha"}, "dpop": {"penalty"}}.get(name, set())
    right = next(answer for told, answer in REFUSED if told is value or told == value)
    return accepted == (value is None or (option in takes and (option != "beta" if right is None else right)))


def by_ranges(case: Refusal) -> bool:
    name, option, value, accepted = case
    if value is None:
        return accepted
    high = 1e300 if option == "beta" or (option, name) in {("alpha", "r-dpo"), ("penalty", "dpop")} else -1.0
    return accepted == (((value > 0) if option == "beta" else (value >= 0)) and value < high)


def whatever(case: Refusal) -> bool:
    return case[3]


@claim(
    "defaults-as-documented",
    "What a call of the ground floor leaves out is what the documentation says.",
    latex=r"f(x) = f(x; \text{defaults})",
    source="docstrings of the ground floor",
    scope="all arguments with a default, of its functions and of the alpha-divergence",
)
def defaults_as_documented() -> list[Step]:
    return [
        Enumerated(
            "the arguments that can be left out", defaults, as_documented, by_option, {"nothing at all": nothing}
        )
    ]


@claim(
    "published-by-name",
    "A preference loss by its published name computes the formula of that name and its slopes, with the options given, or "
    "else the usual ones, and refuses others.",
    latex=r"\ell_{\text{name}}(w, l)",
    source="the papers that the docstrings of derivations.preference_losses name",
    scope="one pair in numbers; the 10 names as they stand, with another beta, and with all options; kto likewise, on one "
    "response in numbers that is good or bad",
    depends_on=("preference-losses-published", "preference-loss-slopes"),
)
def published_by_name() -> list[Step]:
    wrong = {"the usual options always": with_usual}
    return [
        Enumerated("losses by name", published, as_the_function, as_published, wrong),
        Enumerated("options in and out of their ranges", refusable, in_table, by_ranges, {"all": whatever}),
        Enumerated(
            "the loss of one response by name",
            of_one.unpaired,
            of_one.as_kto,
            of_one.as_kto_published,
            {"always good": of_one.as_if_good},
        ),
        Enumerated(
            "its options in and out of their ranges",
            of_one.unpaired_refusable,
            of_one.positive_weights,
            of_one.by_limits,
            {"all": of_one.anything},
        ),
    ]
