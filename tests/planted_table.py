"""Mistakes planted by hand, by kind, each with what is expected to catch it: claims of `check`, or a named test."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """In `file`, `right` (which occurs there) becomes `wrong`. by: a glob of claims, or the id of a test with `::`."""

    words: str
    file: str
    right: str
    wrong: str
    by: str = "*"


FORMULAS = (
    Mistake("length normalization left out", "regularizers", "return (self.coefficient / length) * logp\n", "return self.coefficient * logp\n", "implicit-reward-length-normalized"),
    Mistake("multiplied by the length instead", "regularizers", "return (self.coefficient / length) * logp\n", "return (self.coefficient * length) * logp\n", "implicit-reward-length-normalized"),
    Mistake("generalized entropy without its -p", "regularizers", "(namespace(logp).exp(logp) * (logp - 1))", "(namespace(logp).exp(logp) * logp)", "implicit-reward-length-normalized"),
    Mistake("Shannon form without its + 1", "regularizers", "(self.coefficient / length) * (logp + 1)", "(self.coefficient / length) * logp", "implicit-reward-length-normalized-shannon"),
    Mistake("KL weighted with the reference", "regularizers", "namespace(logp).exp(logp) * (logp - ref_logp)", "namespace(logp).exp(ref_logp) * (logp - ref_logp)", "implicit-reward-kl"),
    Mistake("forward KL with the ratio upside down", "regularizers", "namespace(logp).exp(ref_logp - logp)", "namespace(logp).exp(logp - ref_logp)", "implicit-reward-forward-kl"),
    Mistake("Jensen-Shannon's other slope", "regularizers", "return self.coefficient * (log_sigmoid(log_u) -", "return self.coefficient * (log_sigmoid(-log_u) -", "implicit-reward-jensen-shannon"),
    Mistake("order forgotten in the divisor", "regularizers", "(logp - ref_logp)) / self.order)", "(logp - ref_logp)))", "implicit-reward-alpha-divergence"),
    Mistake("gamma added instead of subtracted", "preferences", "rejected_reward - gamma)", "rejected_reward + gamma)", "margin-rao-kupper"),
    Mistake("winner and loser swapped", "preferences", "return log_sigmoid(chosen_reward - rejected_reward)\n", "return log_sigmoid(rejected_reward - chosen_reward)\n", "margin-rao-kupper"),
    Mistake("ties of theta instead of theta squared", "preferences", "2 * width + xp.log(-xp.expm1(-2 * width))", "width + xp.log(-xp.expm1(-width))", "margin-rao-kupper"),
    Mistake("a tie as two wins", "preferences", "log_theta2_minus_1 + wins + losses", "log_theta2_minus_1 + wins + wins", "margin-rao-kupper"),
    Mistake("Plackett-Luce over all responses at every place", "preferences", "logsumexp(rewards[..., k:], axis=-1)", "logsumexp(rewards, axis=-1)", "plackett-luce-*"),
    Mistake("the last place counted once more than seen", "preferences", "m - 1 if top is None else top", "m - 1", "plackett-luce-top-k"),
    Mistake("label smoothing that flips only the reward difference", "objectives", "log_sigmoid(-(chosen_reward - rejected_reward - gamma))", "log_sigmoid(rejected_reward - chosen_reward - gamma)", "label-smoothing"),
    Mistake("IPO's target 1 / beta", "objectives", "rejected_reward - 0.5) / beta", "rejected_reward - 1.0) / beta", "ipo-objective"),
    Mistake("SimPO normalizes both by the chosen length", "objectives", "regularizer.implicit_reward(rejected_logp, length=rejected_length)", "regularizer.implicit_reward(rejected_logp, length=chosen_length)", "simpo-objective"),
    Mistake("DPO's references both those of the chosen", "objectives", "regularizer.implicit_reward(rejected_logp, ref_logp=ref_rejected_logp)", "regularizer.implicit_reward(rejected_logp, ref_logp=ref_chosen_logp)", "dpo-objective"),
    Mistake("group-mean baseline", "objectives", " * (k / (k - 1))", "", "rloo-unbiased"),
    Mistake("the shaped reward pays for the regularizer", "objectives", "return reward - regularizer.implicit_reward", "return reward + regularizer.implicit_reward", "online-gradient"),
    Mistake("k3 as loss", "objectives", '"loss": kl_k2', '"loss": kl_k3', "kl-estimate-by-role"),
    Mistake("k3 as reward", "objectives", '"reward": kl_k1', '"reward": kl_k3', "kl-estimate-by-role"),
    Mistake("a tie counts as a win", "objectives", "(1 + xp.sign(margin)) / 2", "xp.sign(1 + xp.sign(margin))", "preference-metrics"),
    Mistake("rewards of chosen and rejected exchanged in the log", "objectives", '"rewards/chosen": chosen_reward', '"rewards/chosen": rejected_reward', "preference-metrics"),
    Mistake("log-probs of the chosen logged twice", "objectives", '"logps/rejected": rejected_logp', '"logps/rejected": chosen_logp', "preference-metrics"),
)  # fmt: skip
BATCHES = (
    Mistake("places along the batch", "preferences", "rewards[..., k] - logsumexp(rewards[..., k:], axis=-1)", "rewards[k] - logsumexp(rewards[k:], axis=-1)", "rankings-on-batches"),
    Mistake("normalized over the batch", "preferences", "rewards[..., k] - logsumexp(rewards[..., k:], axis=-1)", "rewards[..., k] - logsumexp(rewards[..., k:], axis=0)", "rankings-on-batches"),
    Mistake("as many places as examples", "preferences", "m = rewards.shape[-1]", "m = rewards.shape[0]", "rankings-on-batches"),
    Mistake("first places only", "preferences", "return sum(choices[1:], start=choices[0])", "return choices[0]", "rankings-on-batches"),
    Mistake("first places only where nothing is said", "preferences", "m - 1 if top is None else top", "1 if top is None else top", "rankings-on-batches"),
    Mistake("two places at most", "preferences", "for k in range(places)", "for k in range(min(places, 2))", "rankings-on-batches"),
    Mistake("a pair along the batch", "objectives", "rewards[..., 0], rewards[..., 1]", "rewards[0], rewards[1]", "objectives-by-name"),
    Mistake("a pair the wrong way round", "objectives", "rewards[..., 0], rewards[..., 1]", "rewards[..., 1], rewards[..., 0]", "objectives-by-name"),
    Mistake("the baseline over prompts", "objectives", "xp.mean(rewards, axis=-1, keepdims=True)", "xp.mean(rewards, axis=0, keepdims=True)", "estimators-on-batches"),
    Mistake("the baseline over everything", "objectives", "xp.mean(rewards, axis=-1, keepdims=True)", "xp.sum(rewards) / (rewards.shape[0] * rewards.shape[1])", "estimators-on-batches"),
    Mistake("k counts prompts", "objectives", "    k = rewards.shape[-1]\n", "    k = rewards.shape[0]\n", "estimators-on-batches"),
    Mistake("one length for the whole batch", "regularizers", "return (self.coefficient / length) * logp\n", "return (self.coefficient / length[:1]) * logp\n", "regularizers-on-batches"),
    Mistake("the mean of the batch for each", "objectives", "    return ((chosen_reward - rejected_reward - 0.5) / beta) ** 2", "    return namespace(chosen_reward).mean(((chosen_reward - rejected_reward - 0.5) / beta) ** 2, axis=0)", "losses-on-batches"),
)  # fmt: skip
NAMES = (
    Mistake("SimPO with Shannon's entropy", "names", '"simpo": Recipe(LengthNormalized,', '"simpo": Recipe(LengthNormalizedShannon,', "objectives-by-name"),
    Mistake("SimPO's rankings with Shannon's entropy", "names", '"simpo-pl": Recipe(LengthNormalized,', '"simpo-pl": Recipe(LengthNormalizedShannon,', "rankings-by-name"),
    Mistake("MaxEnt with a reference", "names", '"maxent": Recipe(Entropy,', '"maxent": Recipe(KL,', "objectives-by-name"),
    Mistake("DPO's rankings without a reference", "names", '"dpo-pl": Recipe(KL,', '"dpo-pl": Recipe(Entropy,', "rankings-by-name"),
    Mistake("IPO by maximum likelihood", "names", '"ipo": Recipe(KL, "beta", least_squares=True)', '"ipo": Recipe(KL, "beta")', "objectives-by-name"),
    Mistake("IPO at strength 1", "objectives", "beta=self.regularizer.coefficient", "beta=1.0", "objectives-by-name"),
    Mistake("rankings by name of first places only", "objectives", "return ranking_loss(rewards, top=self.top)", "return ranking_loss(rewards, top=self.top or 1)", "rankings-by-name"),
    Mistake("top given and ignored", "objectives", "return ranking_loss(rewards, top=self.top)", "return ranking_loss(rewards)", "rankings-by-name"),
    Mistake("every divergence is KL", "names", "{cls.name: cls for cls in (KL, ForwardKL", "{cls.name: KL for cls in (KL, ForwardKL", "*-by-name"),
    Mistake("lengths and references exchanged", "objectives", "return self.regularizer.implicit_reward(logp, length=length, ref_logp=ref_logp)", "return self.regularizer.implicit_reward(logp, length=ref_logp, ref_logp=length)", "objectives-by-name"),
    Mistake("entropy named KL on the command line", "regularizers", "cls.name: cls\n    for cls in (Entropy, KL, LengthNormalized,", "cls.name: (KL if cls is Entropy else cls)\n    for cls in (Entropy, KL, LengthNormalized,", "regularizers-by-name"),
)  # fmt: skip
OPTIONS = (
    Mistake("smoothing given and ignored", "objectives", "gamma=self.gamma, label_smoothing=self.label_smoothing)", "gamma=self.gamma)", "objectives-by-name"),
    Mistake("margin given and ignored", "objectives", "gamma=self.gamma, label_smoothing=self.label_smoothing)", "label_smoothing=self.label_smoothing)", "objectives-by-name"),
    Mistake("order given and ignored", "names", '{"order": given.pop("order")} if "order" in given else {}', '{"order": 0.5} if given.pop("order", 0) else {}', "*-by-name"),
    Mistake("DPO takes a margin", "names", '"dpo": Recipe(KL, "beta")', '"dpo": Recipe(KL, "beta", ("gamma",))', "options-by-name"),
    Mistake("SimPO takes no margin", "names", '"simpo": Recipe(LengthNormalized, "beta", ("gamma", "label_smoothing"))', '"simpo": Recipe(LengthNormalized, "beta", ("label_smoothing",))', "options-by-name"),
    Mistake("a strength of 0", "names", "not 0 < strength < math.inf", "not 0 <= strength < math.inf", "options-by-name"),
    Mistake("an infinite margin", "objectives", "if not 0 <= self.gamma < math.inf:", "if not 0 <= self.gamma:", "options-by-name"),
    Mistake("a negative margin", "objectives", "if not 0 <= self.gamma < math.inf:", "if not self.gamma < math.inf:", "options-by-name"),
    Mistake("every second label flipped", "objectives", "if not 0 <= self.label_smoothing < 0.5:", "if not 0 <= self.label_smoothing <= 0.5:", "options-by-name"),
    Mistake("no place observed", "objectives", "(self.listwise and self.top >= 1)", "(self.listwise and self.top >= 0)", "options-by-name"),
    Mistake("an order of 1", "regularizers", "not 0 < self.order < 1:", "not 0 < self.order <= 1:", "options-by-name"),
    Mistake("a divergence out of thin air", "names", 'given.pop("divergence", None)', 'given.pop("divergence", "kl")', "options-by-name"),
    Mistake("cdpo without its smoothing", "names", 'if name == "cdpo" and', 'if name == "cdpo-" and', "options-by-name"),
)  # fmt: skip
DEFAULTS = (
    Mistake("pairs with a margin of 1/2", "objectives", "rejected_reward: Array, *, gamma: Any = 0.0, label", "rejected_reward: Array, *, gamma: Any = 0.5, label", "losses-on-batches"),
    Mistake("pairs smoothed by 1/10", "objectives", "gamma: Any = 0.0, label_smoothing: Any = 0.0)", "gamma: Any = 0.0, label_smoothing: Any = 0.1)", "losses-on-batches"),
    Mistake("SimPO with a margin of 1", "objectives", "    beta: Any,\n    gamma: Any = 0.0,", "    beta: Any,\n    gamma: Any = 1.0,", "losses-on-batches"),
    Mistake("objectives with a margin of 1/2", "objectives", "    gamma: float = 0.0\n", "    gamma: float = 0.5\n", "objectives-by-name"),
    Mistake("objectives smoothed by 1/10", "objectives", "    label_smoothing: float = 0.0\n", "    label_smoothing: float = 0.1\n", "objectives-by-name"),
    Mistake("an order of 3/10", "regularizers", "    order: Any = 0.5\n", "    order: Any = 0.3\n", "regularizers-by-name"),
)  # fmt: skip
SUMS = (
    Mistake("a sum that counts its first part twice", "regularizers", "(getattr(part, method)(logp, length=length, ref_logp=ref_logp) for part in self.parts)", "(getattr(self.parts[0], method)(logp, length=length, ref_logp=ref_logp) for part in self.parts)", "implicit-reward-sum"),
    Mistake("the second summand lost", "regularizers", "Sum((*terms(self), *terms(other)))", "Sum(terms(self))", "regularizers-on-batches"),
    Mistake("the first summand twice", "regularizers", "Sum((*terms(self), *terms(other)))", "Sum((*terms(self), *terms(self)))", "regularizers-on-batches"),
    Mistake("one part of each summand", "regularizers", "return regularizer.parts if", "return regularizer.parts[:1] if", "regularizers-on-batches"),
    Mistake("equal parts merged", "regularizers", "Sum((*terms(self), *terms(other)))", "Sum(tuple({type(t): t for t in (*terms(self), *terms(other))}.values()))", "regularizers-on-batches"),
    Mistake("phi of the first part only", "regularizers", 'return self._total("phi", logp, length, ref_logp)', "return self.parts[0].phi(logp, length=length, ref_logp=ref_logp)", "regularizers-on-batches"),
    Mistake("the constant of the first part only", "regularizers", "sum((part.constant for part in self.parts)", "sum((part.constant for part in self.parts[:1])", "regularizers-on-batches"),
    Mistake("a sum needs lengths only if all its parts do", "regularizers", "any(part.needs_length for", "all(part.needs_length for", "regularizer-needs"),
    Mistake("a sum needs no reference", "regularizers", "any(part.needs_reference for", "all(part.needs_reference for", "regularizer-needs"),
    Mistake("KL needs no reference", "regularizers", '    name = "kl"\n    needs_reference = True', '    name = "kl"\n    needs_reference = False', "regularizer-needs"),
    Mistake("SimPO's regularizer needs no lengths", "regularizers", '    name = "length-normalized"\n    needs_length = True', '    name = "length-normalized"\n    needs_length = False', "regularizer-needs"),
)  # fmt: skip
PARSING = (
    Mistake("only the first term is read", "names", "return parts[0] if len(parts) == 1 else Sum(tuple(parts))", "return parts[0]", "regularizers-by-name"),
    Mistake("only two terms are read", "names", "else Sum(tuple(parts))", "else Sum(tuple(parts[:2]))", "regularizers-by-name"),
    Mistake("an exponent's sign splits the terms", "names", r're.split(r"\+(?!\d)", text)', r're.split(r"\+", text)', "regularizers-by-name"),
    Mistake("the option overrides what is written", "names", "_number(value, text) if value else coefficient", "coefficient or _number(value, text)", "regularizers-by-name"),
    Mistake("order and coefficient exchanged", "names", "AlphaDivergence(strength, _number(order, text))", "AlphaDivergence(_number(order, text), strength)", "regularizers-by-name"),
    Mistake("an order that is read and dropped", "names", "AlphaDivergence(strength, _number(order, text)) if order else", "AlphaDivergence(strength) if order else", "regularizers-by-name"),
    Mistake("a formula's coefficient dropped", "custom/derive", "return derivation.regularizer(**dict.fromkeys(names, coefficient))", "return derivation.regularizer(**dict.fromkeys(names, 1.0))", "regularizers-by-name"),
    Mistake("a minus read as a plus", "custom/parser", "return _read(left) - _read(right)", "return _read(left) + _read(right)", "tests/derivations/test_derive.py::test_the_known_objectives_come_out_of_their_regularizers_on_numpy_and_torch"),
    Mistake("exponents on logs forgotten", "custom/log_space", "logs.append(evaluate_in_logs(exponent, values, xp) * _log_sum(exponents, values, xp))", "logs.append(_log_sum(exponents, values, xp))", "regularizers-by-name"),
)  # fmt: skip
NUMBERS = (
    Mistake("log sigmoid overflows", "arrays", "xp.minimum(x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))", "-xp.log1p(xp.exp(-x))", "numeric-branches"),
    Mistake("log sigmoid loses its small values", "arrays", "xp.log1p(xp.exp(-xp.abs(x)))", "xp.log(1 + xp.exp(-xp.abs(x)))", "numeric-branches"),
    Mistake("log sigmoid of |x|", "arrays", "xp.minimum(x, xp.zeros_like(x)) - xp.log1p", "-xp.log1p", "numeric-branches"),
    Mistake("log-sum-exp without its shift", "arrays", "xp.squeeze(top, axis=axis) + xp.log(xp.sum(xp.exp(x - top), axis=axis))", "xp.log(xp.sum(xp.exp(x), axis=axis))", "numeric-branches"),
    Mistake("log-sum-exp without the largest", "arrays", "xp.squeeze(top, axis=axis) + xp.log(", "xp.log(", "numeric-branches"),
    Mistake("log-sum-exp along the last axis only", "arrays", "top = xp.max(x, axis=axis, keepdims=True)", "axis = -1\n    top = xp.max(x, axis=axis, keepdims=True)", "numeric-branches"),
    Mistake("masked entries multiplied by 0", "arrays", "xp.where(mask, x, xp.zeros_like(x))", "x * mask", "numeric-branches"),
    Mistake("the mask the wrong way round", "arrays", "xp.where(mask, x, xp.zeros_like(x))", "xp.where(mask, xp.zeros_like(x), x)", "numeric-branches"),
    Mistake("a row of -inf is NaN", "arrays", "    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))", "    top = top + 0", "tests/derivations/test_ground_floor.py::test_logsumexp_and_its_gradient_match_50_digits_and_treat_minus_infinity_as_probability_zero"),
    Mistake("half a gradient at 0", "arrays", "xp.minimum(x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))", "xp.where(x < 0, x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))", "tests/derivations/test_ground_floor.py::test_log_sigmoid_and_its_gradient_match_50_digits_at_extreme_arguments_in_float32"),
)  # fmt: skip
KINDS = {
    "formulas": FORMULAS,
    "batch axes": BATCHES,
    "names": NAMES,
    "options": OPTIONS,
    "defaults": DEFAULTS,
    "sums": SUMS,
    "parsing": PARSING,
    "numeric branches": NUMBERS,
}
PLANTED = tuple(mistake for kind in KINDS.values() for mistake in kind)
