"""Slopes of the losses asked for by name: each is traced and is the derivative of the traced loss."""

from typing import Any

import numpy as np
import sympy as sp

from derivations import preference_losses, preference_slopes
from derivations.proofs.preference_losses import LENGTHS, REFS, h_l, lost
from derivations.proofs.symbols import alpha, beta, gamma, len_l, len_w, logp_l, logp_w, p, q, ref_l, ref_w
from derivations.prover.claims import claim
from derivations.prover.kinds import Equal, Step
from derivations.prover.tracing import trace, traced_array

point = sp.Symbol("z", nonnegative=True)  # KTO's reference point, nats
PLAIN = {**REFS, "beta": beta}
SMOOTH: dict[str, dict[str, Any]] = {
    "apo_zero": PLAIN,
    "apo_down": PLAIN,
    "chi_po": PLAIN,
    "r_dpo": {**PLAIN, **LENGTHS, "alpha": alpha},
    "ln_dpo": {**PLAIN, **LENGTHS},
    "sppo": PLAIN,
}


def loss_and_slopes(name: str, chosen: sp.Expr, rejected: sp.Expr, **options: Any) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """The loss of that name and its two slopes, traced at those log-probs."""
    loss, slopes = getattr(preference_losses, name), getattr(preference_slopes, name)
    in_chosen, in_rejected = traced_array(slopes, chosen, rejected, **options)
    return trace(loss, chosen, rejected, **options), in_chosen.item(), in_rejected.item()


def equal(name: str, slopes: tuple[sp.Expr, sp.Expr], derivatives: tuple[sp.Expr, sp.Expr]) -> list[Step]:
    return [
        Equal(f"{name}: the slope in {side}", found, right)
        for side, found, right in zip(("log p(w)", "log p(l)"), slopes, derivatives, strict=True)
    ]


@claim(
    "preference-loss-slopes",
    "The slopes of the preference losses that are asked for by name are the derivatives of these losses in the log-probs.",
    latex=r"\text{slope}_y = \frac{\partial\,\ell(w, l)}{\partial\log\pi(y)}",
    source="the losses of derivations.preference_losses",
    scope="any pair, of KTO any good and any bad response; the hinge on both sides of its corner, DPO-Positive above and "
    "below the reference; the weight of WPO and the reference point of KTO are constants",
    depends_on=("loss-slopes", "preference-losses-published"),
)
def preference_loss_slopes() -> list[Step]:
    steps: list[Step] = []
    for name, options in SMOOTH.items():
        loss, *slopes = loss_and_slopes(name, logp_w, logp_l, **options)
        steps += equal(name, (slopes[0], slopes[1]), (sp.diff(loss, logp_w), sp.diff(loss, logp_l)))
    return [*steps, *_orpo(), *_wpo(), *_dpop(), *_slic(), *_kto()]


def _orpo() -> list[Step]:
    """In the mean probabilities p and q of the two responses: d / d log p(w) = (p / |w|) d / d p."""
    loss, *slopes = loss_and_slopes("orpo", len_w * sp.log(p), len_l * sp.log(q), **LENGTHS, beta=beta)
    derivatives = p / len_w * sp.diff(loss, p), q / len_l * sp.diff(loss, q)
    return equal("orpo", (slopes[0], slopes[1]), derivatives)


def _wpo() -> list[Step]:
    """The weight is taken out before the derivative, and put back after it."""
    loss, *slopes = loss_and_slopes("wpo", logp_w, logp_l, **PLAIN, **LENGTHS)
    weight = sp.exp(logp_w / len_w + logp_l / len_l)
    rest = loss / weight
    return equal("wpo", (slopes[0], slopes[1]), (weight * sp.diff(rest, logp_w), weight * sp.diff(rest, logp_l)))


def _dpop() -> list[Step]:
    """The chosen response `lost` nats above or below its reference."""
    steps: list[Step] = []
    for where, side in (("above", 1), ("below", -1)):
        loss, *slopes = loss_and_slopes("dpop", ref_w + side * lost, logp_l, **PLAIN, penalty=alpha)
        derivatives = side * sp.diff(loss, lost), sp.diff(loss, logp_l)
        steps += equal(f"dpop, chosen {where} the reference", (slopes[0], slopes[1]), derivatives)
    return steps


def _slic() -> list[Step]:
    """The margin `lost` short of its corner or beyond it. With `lost` held the chosen response rises as the rejected one
    does, so the derivative in log p(l) there is the sum of the two slopes."""
    steps: list[Step] = []
    for where, side in (("beyond", 1), ("short of", -1)):
        chosen = ref_w + h_l + 1 / beta + side * lost
        loss, *slopes = loss_and_slopes("slic", chosen, logp_l, **PLAIN)
        in_chosen = side * sp.diff(loss, lost)
        derivatives = in_chosen, sp.diff(loss, logp_l) - in_chosen
        steps += equal(f"slic, {where} its margin", (slopes[0], slopes[1]), derivatives)
    return steps


def _kto() -> list[Step]:
    """A good response and a bad one in one call, with both weights; the reference point is a symbol of its own."""
    given = {
        "ref_logp": [ref_w, ref_l],
        "kl": point,
        "beta": beta,
        "desirable_weight": alpha,
        "undesirable_weight": gamma,
    }
    call = [logp_w, logp_l], np.array([True, False])
    losses = traced_array(preference_losses.kto, *call, **given).values
    slopes = traced_array(preference_slopes.kto, *call, **given).values
    return [
        Equal(f"kto, {which}: the slope in log p", slope, sp.diff(loss, logp))
        for which, slope, loss, logp in zip(("desirable", "undesirable"), slopes, losses, call[0], strict=True)
    ]
