"""More mistakes planted by hand, in all files of the ground floor, by kind: each was caught by nothing, or by one claim."""

from planted_kind import Mistake

MORE_FORM = (
    Mistake("epsilon inside of the root", "advantages", "(variance**0.5 + epsilon)", "(variance + epsilon) ** 0.5", "group-mean-shrinks"),
    Mistake("the smaller ratio in place of the smaller product", "off_policy", "-xp.minimum(ratio * advantages, clip(ratio, epsilon, epsilon_high) * advantages)", "-xp.minimum(ratio, clip(ratio, epsilon, epsilon_high)) * advantages", "gspo-slope"),
    Mistake("CISPO's weight with its gradient", "off_policy", "weight = detached(clip(ratios(logps, old_logps, mask), epsilon, epsilon_high))", "weight = clip(ratios(logps, old_logps, mask), epsilon, epsilon_high)", "tests/derivations/test_held_constant.py::test_the_gradient_is_that_with_the_weight_as_a_number"),
    Mistake("what the sampler has under the mask", "off_policy", "xp.where(mask, logps, zero) - xp.where(mask, old_logps, zero)", "xp.where(mask, logps, zero) - old_logps", "cispo-slope"),
    Mistake("GSPO's root over the padding", "off_policy", "xp.exp(log_ratio / _lengths(logps, mask) if", "xp.exp(log_ratio / logps.shape[-1] if", "gspo-slope"),
    Mistake("KTO's reference point with its gradient", "preference_losses", "- beta * detached(kl)", "- beta * kl", "tests/derivations/test_held_constant.py::test_the_gradient_is_that_with_the_weight_as_a_number"),
    Mistake("WPO's weight with its gradient", "preference_losses", "weight = detached(xp.exp(chosen_logp / chosen_length + rejected_logp / rejected_length))", "weight = xp.exp(chosen_logp / chosen_length + rejected_logp / rejected_length)", "tests/derivations/test_held_constant.py::test_the_gradient_is_that_with_the_weight_as_a_number"),
    Mistake("WPO's slope with the chosen length twice", "preference_slopes", "chosen_logp / chosen_length + rejected_logp / rejected_length)\n    pull", "chosen_logp / chosen_length + rejected_logp / chosen_length)\n    pull", "published-by-name"),
    Mistake("an alpha-divergence's limit without its order", "regularizers", "return -self.coefficient * (namespace(logp).exp(self.order * (ref_logp - logp)) / self.order)", "return -self.coefficient * namespace(logp).exp(self.order * (ref_logp - logp))", "implicit-reward-slopes"),
    Mistake("Jensen-Shannon's limit upside down", "regularizers", "return self.coefficient * log_sigmoid(logp - ref_logp)", "return self.coefficient * log_sigmoid(ref_logp - logp)", "small-values-keep-their-digits"),
    Mistake("HC2 in place of HC3", "retention", "residual / np.maximum(1 - leverage, np.finfo(float).eps)", "residual / np.sqrt(np.maximum(1 - leverage, np.finfo(float).eps))", "tests/derivations/test_retention.py::test_errors_are_those_of_leaving_each_response_out_in_turn"),
    Mistake("weights that move with the policy", "retention", "weights = np.exp(ref_logp)", "weights = np.exp(logp)", "tests/derivations/test_retention.py::test_errors_are_those_of_leaving_each_response_out_in_turn"),
    Mistake("kappa of the change", "retention", "kappa = 1 + (self.change_ref", "kappa = (self.change_ref", "tests/derivations/test_retention.py::test_errors_are_those_of_leaving_each_response_out_in_turn"),
    Mistake("R2 of the change over the level", "retention", "1 - missed / np.where(moved, sums.change_change, 1.0)", "1 - missed / np.where(moved, sums.level_level, 1.0)", "tests/derivations/test_retention.py::test_r2_of_the_change_tells_a_law_from_noise_where_r2_of_the_level_does_not"),
    Mistake("the first place left out of the slope", "slopes", "(1 if j < places else 0)", "(1 if j < m - 1 else 0)", "loss-slopes"),
)  # fmt: skip
MORE_FORM += (
    Mistake("a deviation that is right for two samples", "advantages", "/ (k if population else k - 1)", "/ (k if population else 1)", "group-mean-shrinks"),
    Mistake("PPO's advantage of the first token for all", "off_policy", "each = advantages if advantages.ndim == logps.ndim else advantages[..., None]\n    loss", "each = advantages[..., :1] if advantages.ndim == logps.ndim else advantages[..., None]\n    loss", "ppo-clip-slope"),
    Mistake("CISPO's advantage of the first token for all", "off_policy", "each = advantages if advantages.ndim == logps.ndim else advantages[..., None]\n    return -weight", "each = advantages[..., :1] if advantages.ndim == logps.ndim else advantages[..., None]\n    return -weight", "cispo-slope"),
    Mistake("GSPO's sampler under the mask", "off_policy", "masked_sum(logps, mask) - masked_sum(old_logps, mask)", "masked_sum(logps, mask) - namespace(logps).sum(old_logps, axis=-1)", "gspo-slope"),
    Mistake("RLOO's clip on the geometric mean", "off_policy", "        return -ratio * advantages\n    return", "        return -ratio * advantages\n    ratio = sequence_ratios(logps, old_logps, mask, per_token=True)\n    return", "off-policy-at-ratio-one"),
    Mistake("a draw of one prompt less", "retention", ".multinomial(p, [1 / p] * p, size=DRAWS)", ".multinomial(p - 1, [1 / p] * p, size=DRAWS)", "tests/derivations/test_retention.py::test_every_draw_of_the_bootstrap_has_as_many_prompts_as_the_data"),
    Mistake("a leverage without its mean", "retention", "leverage = weights + pull_kappa * ref", "leverage = pull_kappa * ref", "tests/derivations/test_retention.py::test_errors_are_those_of_leaving_each_response_out_in_turn"),
)  # fmt: skip
MORE_BATCH = (
    Mistake("log-softmax over the batch", "arrays", "return logits - logsumexp(logits, axis=-1)[..., None]", "return logits - logsumexp(logits, axis=0)", "calls-by-example"),
    Mistake("log-softmax of a matrix only", "arrays", "return logits - logsumexp(logits, axis=-1)[..., None]", "return logits - (logsumexp(logits, axis=-1)[:, None] if logits.ndim > 1 else logsumexp(logits, axis=-1))", "calls-by-example"),
    Mistake("a squeeze of every axis of 1", "arrays", "xp.squeeze(top, axis=axis) + xp.log(", "top.squeeze() + xp.log(", "calls-by-example"),
    Mistake("the group counts prompts", "advantages", "    k = rewards.shape[-1]\n    return rloo", "    k = rewards.shape[0]\n    return rloo", "calls-by-example"),
    Mistake("the deviation over the batch", "advantages", "axis=-1, keepdims=True) / (k", "axis=0, keepdims=True) / (k", "calls-by-example"),
    Mistake("one n for all", "best_of_n", "(n - 1) / n\n", "(n - 1) / (n if n.ndim == 0 else n[:1])\n", "calls-by-example"),
    Mistake("the baseline over the second axis", "objectives", "xp.mean(rewards, axis=-1, keepdims=True)", "xp.mean(rewards, axis=min(1, rewards.ndim - 1), keepdims=True)", "calls-by-example"),
    Mistake("pairs of a matrix only", "objectives", "        chosen, rejected = rewards[..., 0], rewards[..., 1]\n        if self.least_squares and isinstance(self.regularizer, KL):\n            return", "        chosen, rejected = rewards[:, 0], rewards[:, 1]\n        if self.least_squares and isinstance(self.regularizer, KL):\n            return", "calls-by-example"),
    Mistake("slopes stacked along the second axis", "objectives", "stack([slope, -slope], axis=-1)", "stack([slope, -slope], axis=min(1, slope.ndim))", "calls-by-example"),
    Mistake("one advantage a sample of a matrix only", "off_policy", "advantages[..., None]\n    loss", "advantages.reshape(-1, 1)\n    loss", "calls-by-example"),
    Mistake("token mean over prompts", "off_policy", "xp.mean(lengths, axis=-1, keepdims=True))", "xp.mean(lengths, axis=0, keepdims=True))", "calls-by-example"),
    Mistake("WPO's weights over their mean", "preference_losses", "    return weight * pair_loss(", "    return weight / (xp.sum(weight) / weight.size if hasattr(weight, 'size') and isinstance(weight.size, int) and weight.size > 1 else 1) * pair_loss(", "calls-by-example"),
    Mistake("DPO-Positive's penalty of the whole batch", "preference_losses", "    return -log_sigmoid(beta * (ratios - penalty * lost))", "    return -log_sigmoid(beta * (ratios - penalty * (lost if lost.ndim == 0 else lost[:1])))", "calls-by-example"),
    Mistake("one rejected length for the batch", "preference_slopes", "return pull / chosen_length, -pull / rejected_length", "return pull / chosen_length, -pull / (rejected_length if rejected_length.ndim == 0 else rejected_length[:1])", "calls-by-example"),
    Mistake("slopes stacked along the batch", "published", "self._call(slopes, logp, length, ref_logp), axis=-1)", "self._call(slopes, logp, length, ref_logp), axis=0)", "calls-by-example"),
    Mistake("references along the batch", "published", "(ref_logp[..., 0], ref_logp[..., 1])", "(ref_logp[0], ref_logp[1])", "calls-by-example"),
    Mistake("places of a matrix only", "preferences", "rewards[..., k] - logsumexp(rewards[..., k:], axis=-1)", "(rewards[:, k] - logsumexp(rewards[:, k:], axis=-1) if rewards.ndim > 1 else rewards[k] - logsumexp(rewards[k:]))", "calls-by-example"),
    Mistake("a slope in the shape of the lengths", "regularizers", "return (self.coefficient / length) * logp\n\n    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:\n        return self.coefficient / length + namespace(logp).zeros_like(logp)", "return (self.coefficient / length) * logp\n\n    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:\n        return self.coefficient / length", "calls-by-example"),
    Mistake("ranking slopes along the second axis", "slopes", "xp.stack(columns, axis=-1)", "xp.stack(columns, axis=min(1, rewards.ndim - 1))", "calls-by-example"),
    Mistake("entropies broadcast over the vocabulary", "tokens", "(logp + token_entropy(logits)[..., None])", "(logp + token_entropy(logits))", "calls-by-example"),
    Mistake("the value over prefixes", "tokens", "alpha * logsumexp(q / alpha, axis=-1)", "alpha * logsumexp(q / alpha, axis=0)", "calls-by-example"),
    Mistake("the entropy over prefixes", "tokens", "Entropy(1.0).phi(log_softmax(logits)), axis=-1)", "Entropy(1.0).phi(log_softmax(logits)), axis=0)", "calls-by-example"),
)  # fmt: skip
MORE_NAMES = (
    Mistake("a slope of IPO at strength 1", "objectives", "ipo_slope(chosen, rejected, beta=self.regularizer.coefficient)", "ipo_slope(chosen, rejected, beta=1.0)", "loss-slopes"),
    Mistake("APO's two forms exchanged", "published", "\"apo-zero\": preference_losses.apo_zero,\n    \"apo-down\": preference_losses.apo_down", "\"apo-zero\": preference_losses.apo_down,\n    \"apo-down\": preference_losses.apo_zero", "published-by-name"),
    Mistake("no loss asks for a reference", "published", "KL(beta) if REFERENCES[0] in asked", "KL(beta) if REFERENCES[0] in takes", "published-by-name"),
    Mistake("LN-DPO's reward without its lengths", "published", "\"ln-dpo\": preference_losses.ln_dpo_score,", "\"ln-dpo\": preference_losses.chi_po_score,", "published-by-name"),
    Mistake("lengths exchanged", "published", "length[..., 0], length[..., 1]), strict=True))\n        if", "length[..., 1], length[..., 0]), strict=True))\n        if", "published-by-name"),
)  # fmt: skip
MORE_OPT = (
    Mistake("a zero is no option", "names", "if value is not None}", "if value}", "options-together"),
    Mistake("an order dropped beside another divergence", "names", "    if order and regularizer is not AlphaDivergence:\n        raise ValueError(f\"objective {name}: only divergence alpha-divergence takes an order\")", "    if regularizer is not AlphaDivergence:\n        order = {}", "options-together"),
    Mistake("leave-one-out of one", "objectives", "if k < 2:", "if k < 1:", "tests/derivations/test_ground_floor.py::test_wrong_options_say_what_was_wrong_and_what_was_expected"),
    Mistake("a slope without its smoothing", "objectives", "slope = pair_slope(chosen, rejected, gamma=self.gamma, label_smoothing=self.label_smoothing)", "slope = pair_slope(chosen, rejected, gamma=self.gamma)", "loss-slopes"),
    Mistake("a slope of the whole ranking", "objectives", "return ranking_slope(rewards, top=self.top)", "return ranking_slope(rewards)", "loss-slopes"),
    Mistake("a margin on rankings", "objectives", "(self.gamma or self.label_smoothing or self.least_squares)", "(self.gamma and self.label_smoothing or self.least_squares)", "options-together"),
    Mistake("an upper half of 0 is none", "off_policy", "(epsilon if epsilon_high is None else epsilon_high)", "(epsilon_high or epsilon)", "ppo-clip-slope"),
    Mistake("RLOO's upper half dropped", "off_policy", "        return -ratio * advantages\n    return clipped_surrogate(ratio, advantages, epsilon=epsilon, epsilon_high=epsilon_high)", "        return -ratio * advantages\n    return clipped_surrogate(ratio, advantages, epsilon=epsilon)", "off-policy-at-ratio-one"),
    Mistake("GRPO's upper half dropped", "off_policy", "losses = ppo_clip(logps, old_logps, mask, advantages, epsilon=epsilon, epsilon_high=epsilon_high)", "losses = ppo_clip(logps, old_logps, mask, advantages, epsilon=epsilon)", "off-policy-reductions"),
    Mistake("the usual options over the given ones", "published", "PUBLISHED_OPTIONS[name] | given", "given | PUBLISHED_OPTIONS[name]", "published-by-name"),
    Mistake("negative prices", "published", "if not 0 <= value < math.inf:", "if not value < math.inf:", "published-by-name"),
    Mistake("as many places as responses", "preferences", "1 <= places <= m - 1", "1 <= places <= m", "tests/derivations/test_ground_floor.py::test_wrong_options_say_what_was_wrong_and_what_was_expected"),
)  # fmt: skip
MORE_DEF = (
    Mistake("a smaller epsilon", "advantages", "epsilon: float = 1e-4", "epsilon: float = 1e-8", "defaults-as-documented"),
    Mistake("the population's deviation as default", "advantages", "population: bool = False", "population: bool = True", "defaults-as-documented"),
    Mistake("CISPO's bound as TRL writes it", "off_policy", "epsilon_high: Any = 4.0", "epsilon_high: Any = 5.0", "defaults-as-documented"),
    Mistake("GSPO with PPO's epsilon", "off_policy", "epsilon: Any = 3e-4", "epsilon: Any = 0.2", "defaults-as-documented"),
    Mistake("Dr. GRPO as default", "off_policy", "per_length: bool = True", "per_length: bool = False", "defaults-as-documented"),
    Mistake("a tenth of DPO-Positive's penalty", "preference_losses", "penalty: Any = 50.0", "penalty: Any = 5.0", "defaults-as-documented"),
    Mistake("KTO's weights exchanged", "preference_losses", "    desirable_weight: Any = 1.0,", "    desirable_weight: Any = 1.33,", "defaults-as-documented"),
    Mistake("a tenth of the penalty in the slope", "preference_slopes", "penalty: Any = 50.0", "penalty: Any = 5.0", "defaults-as-documented"),
    Mistake("a stronger SPPO", "published", "\"sppo\": {\"beta\": 0.001}", "\"sppo\": {\"beta\": 0.01}", "published-by-name"),
    Mistake("90 % for 95 %", "retention", "(0.025, 0.975)", "(0.05, 0.95)", "tests/derivations/test_retention.py::test_intervals_hold_95_percent_of_a_gaussian_estimate_and_what_is_nearly_collinear_is_still_determined"),
)  # fmt: skip
MORE_SUMS = (
    Mistake("a sum's slope of its first part", "regularizers", "return self._total(\"slope\", logp, length, ref_logp)", "return self.parts[0].slope(logp, length=length, ref_logp=ref_logp)", "implicit-reward-slopes"),
    Mistake("a sum's limit never taken", "regularizers", "self._total(\"below_top\", logp, length, ref_logp)", "self._total(\"implicit_reward\", logp, length, ref_logp)", "small-values-keep-their-digits"),
)  # fmt: skip
MORE_PARSE = (
    Mistake("blanks around a plus", "names", "[item.strip() for item in re.split", "[item for item in re.split", "options-together"),
    Mistake("a negative coefficient made positive", "names", "return float(value)", "return abs(float(value))", "options-together"),
    Mistake("an order makes a divergence an alpha-divergence", "names", "if order and name != AlphaDivergence.name:", "if order and name not in DIVERGENCES:", "options-together"),
    Mistake("a coefficient of 0 that no part uses", "names", "if coefficient is not None and not any(", "if coefficient and not any(", "options-together"),
    Mistake("a coefficient of 0 refused", "names", "not 0 <= coefficient < math.inf", "not 0 < coefficient < math.inf", "options-together"),
)  # fmt: skip
MORE_NUM = (
    Mistake("a sigmoid that loses its small values", "arrays", "return namespace(x).exp(log_sigmoid(x))", "return 1 - namespace(x).exp(log_sigmoid(-x))", "small-values-keep-their-digits"),
    Mistake("a masked sum along the last axis only", "arrays", "xp.sum(xp.where(mask, x, xp.zeros_like(x)), axis=axis)", "xp.sum(xp.where(mask, x, xp.zeros_like(x)), axis=-1)", "numeric-branches"),
    Mistake("an infinite top is not shifted back", "arrays", "xp.where(xp.isfinite(top), top, xp.zeros_like(top))", "xp.where(top > -1e30, top, xp.zeros_like(top))", "numeric-branches"),
    Mistake("k3 by cancellation", "objectives", "namespace(log_rho).expm1(log_rho) - log_rho", "namespace(log_rho).exp(log_rho) - 1 - log_rho", "small-values-keep-their-digits"),
    Mistake("certainty from a millionth on", "preference_losses", "LEAST = 1e-12", "LEAST = 1e-6", "small-values-keep-their-digits"),
    Mistake("a slope at certainty", "preference_slopes", "xp.where(logp < end, -1 / xp.expm1(xp.minimum(logp, end)), xp.zeros_like(logp))", "-1 / xp.expm1(xp.minimum(logp, end))", "tests/derivations/test_ground_floor.py::test_on_corners_and_at_certainty_the_slopes_are_those_of_autograd_and_finite"),
    Mistake("a whole slope at a corner", "preference_slopes", "(1 + namespace(x).sign(x)) / 2", "namespace(x).sign(1 + namespace(x).sign(x))", "tests/derivations/test_ground_floor.py::test_on_corners_and_at_certainty_the_slopes_are_those_of_autograd_and_finite"),
    Mistake("a tie's width rounded", "preferences", "xp.asarray(gamma, dtype=first_reward.dtype)", "xp.asarray(gamma, dtype=first_reward.dtype) + 1e-9", "small-values-keep-their-digits"),
    Mistake("alpha-divergence by cancellation", "regularizers", "-self.coefficient * (namespace(logp).expm1(-self.order * (logp - ref_logp)) / self.order)", "-self.coefficient * ((namespace(logp).exp(-self.order * (logp - ref_logp)) - 1) / self.order)", "small-values-keep-their-digits"),
    Mistake("no pull at all divides by 0", "retention", "if c > 0 else t", "if c >= 0 else t", "small-values-keep-their-digits"),
    Mistake("collinear from a millionth on", "retention", "COLLINEAR = 1e-10", "COLLINEAR = 1e-6", "tests/derivations/test_retention.py::test_intervals_hold_95_percent_of_a_gaussian_estimate_and_what_is_nearly_collinear_is_still_determined"),
    Mistake("a slope by cancellation", "slopes", "wrong, right = xp.exp(log_sigmoid(-margin)), xp.exp(log_sigmoid(margin))", "right = xp.exp(log_sigmoid(margin))\n    wrong = 1 - right", "small-values-keep-their-digits"),
)  # fmt: skip
MORE = {
    "formulas": MORE_FORM,
    "batch axes": MORE_BATCH,
    "names": MORE_NAMES,
    "options": MORE_OPT,
    "defaults": MORE_DEF,
    "sums": MORE_SUMS,
    "parsing": MORE_PARSE,
    "numeric branches": MORE_NUM,
}
