"""Retention finds what was planted, whatever each prompt adds."""

import numpy as np
import pytest

from derivations.retention import bootstrap_retention, fit_retention


@pytest.mark.parametrize(("kappa", "tau"), [(0.76, 0.0), (0.9, 0.4), (1.0, 1.5), (0.0, 3.0)])
def test_retention_recovers_kappa_and_tau_of_policies_built_as_q_to_the_kappa_times_exp_tau_r(kappa, tau):
    """Over 500 responses to each of 12 prompts, normalized: log Z differs by prompt. Samples are drawn from q."""
    rng = np.random.default_rng(0)
    k = 8
    picked = []
    for _ in range(12):
        logq, reward = rng.normal(0, 4, 500), rng.normal(size=500)
        logq -= np.logaddexp.reduce(logq)
        logp = kappa * logq + tau * reward
        logp -= np.logaddexp.reduce(logp)
        own = rng.choice(500, size=k, p=np.exp(logq))
        picked.append((logp[own], logq[own], reward[own]))
    found = bootstrap_retention(*np.transpose(picked, (1, 0, 2)))
    for name, planted in (("kappa", kappa), ("tau", tau)):
        assert found[name] == pytest.approx({"mean": planted, "low": planted, "high": planted}, abs=1e-9)
    assert found["r2_level"]["mean"] == pytest.approx(1)
    assert found["r2_change"]["mean"] == pytest.approx(1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_reference_itself_has_kappa_1_and_its_change_has_no_r2(dtype):
    rng = np.random.default_rng(0)
    logq, reward = rng.normal(-40, 17, (12, 8)).astype(dtype), rng.normal(size=(12, 8)).astype(dtype)
    found = bootstrap_retention(logq, logq, reward)
    assert found["kappa"] == {"mean": 1, "low": 1, "high": 1}
    assert found["tau"] == {"mean": 0, "low": 0, "high": 0}
    assert found["r2_level"]["mean"] == 1
    assert found["r2_change"] == {"mean": None, "low": None, "high": None}


def test_r2_of_the_change_tells_a_law_from_noise_where_r2_of_the_level_does_not():
    rng = np.random.default_rng(1)
    logq, reward = rng.normal(-40, 17, (12, 8)), rng.normal(size=(12, 8))
    lawful = 0.98 * logq + 0.5 * reward
    noisy = logq + rng.normal(0, 0.6, logq.shape)
    (a, b) = (bootstrap_retention(y, logq, reward) for y in (lawful, noisy))
    assert min(a["r2_level"]["mean"], b["r2_level"]["mean"]) > 0.99
    assert a["r2_change"]["mean"] == pytest.approx(1)
    assert b["r2_change"]["mean"] < 0.2
    # by the other route: an ordinary regression of the level, within prompts
    y, q, r = (x - x.mean(1, keepdims=True) for x in (noisy, logq, reward))
    (kappa, tau), residual, *_ = np.linalg.lstsq(np.stack([q.ravel(), r.ravel()], 1), y.ravel())
    assert (b["kappa"]["mean"], b["tau"]["mean"]) == pytest.approx((kappa, tau), rel=1e-9)
    assert b["r2_change"]["mean"] == pytest.approx(1 - residual[0] / ((y - q) ** 2).sum(), rel=1e-9)
    assert b["r2_level"]["mean"] == pytest.approx(1 - residual[0] / (y**2).sum(), rel=1e-9)


def test_bootstrap_intervals_over_prompts_cover_the_truth_as_often_as_they_say():
    """Errors shared within a prompt's slope: intervals over responses would be too narrow."""
    rng = np.random.default_rng(2)
    covered = 0
    runs, p = 60, 16
    for _ in range(runs):
        logq, reward = rng.normal(0, 5, (p, 8)), rng.normal(size=(p, 8))
        logp = (0.8 + rng.normal(0, 0.2, (p, 1))) * logq + 0.3 * reward
        kappa = bootstrap_retention(logp, logq, reward)["kappa"]
        covered += kappa["low"] <= 0.8 <= kappa["high"]
    # 95 % nominal; the percentile bootstrap on 16 clusters gives about 91 %: four deviations of 60 draws below that
    assert covered / runs > 0.91 - 4 * (0.91 * 0.09 / runs) ** 0.5


def test_every_draw_of_the_bootstrap_has_as_many_prompts_as_the_data():
    """Of one prompt each draw is that prompt, and of two equal ones both: the interval is the estimate."""
    rng = np.random.default_rng(4)
    q, r = rng.normal(0, 2, (1, 9)), rng.normal(size=(1, 9))
    y = 0.8 * q + 0.5 * r + rng.normal(0, 0.1, (1, 9))
    for prompts in (1, 2):
        for name, found in bootstrap_retention(*(np.repeat(x, prompts, axis=0) for x in (y, q, r))).items():
            assert found["low"] == pytest.approx(found["mean"], rel=1e-12), name
            assert found["high"] == pytest.approx(found["mean"], rel=1e-12), name


def test_where_log_q_and_the_reward_are_collinear_nothing_is_determined_and_that_is_said():
    logq = np.random.default_rng(3).normal(-40, 17, (12, 8))
    found = bootstrap_retention(0.9 * logq, logq, 2 * logq)
    assert found["kappa"] == found["tau"] == {"mean": None, "low": None, "high": None}


def test_errors_are_those_of_leaving_each_response_out_in_turn():
    """HC3 is the sum of squares of what the fit changes by without one response (MacKinnon and White 1985)."""
    rng = np.random.default_rng(4)
    logq, reward = rng.normal(0, 1, (2, 6)), rng.normal(size=(2, 6))
    logq -= np.logaddexp.reduce(logq, axis=1, keepdims=True)
    logp = 0.7 * logq + 0.4 * reward + rng.normal(0, 0.3, logq.shape)
    columns = np.stack([logq.ravel(), reward.ravel(), *np.repeat(np.eye(2), 6, axis=1)], axis=1)

    def fitted(kept):
        root = np.sqrt(np.exp(logq.ravel()) * kept)
        return np.linalg.lstsq(columns * root[:, None], logp.ravel() * root)[0][:2]

    whole = fitted(np.ones(12))
    right = np.sqrt(sum((fitted(1 - one) - whole) ** 2 for one in np.eye(12)))
    fit = fit_retention(logp, logq, reward)
    np.testing.assert_allclose([fit.kappa, fit.tau], whole, rtol=1e-9)
    np.testing.assert_allclose([fit.kappa_error, fit.tau_error], right, rtol=1e-9)


def test_intervals_hold_95_percent_of_a_gaussian_estimate_and_what_is_nearly_collinear_is_still_determined():
    rng = np.random.default_rng(5)
    logq, reward = rng.normal(0, 5, (400, 8)), rng.normal(size=(400, 8))
    kappas = 0.8 + rng.normal(0, 0.2, 400)
    found = bootstrap_retention(kappas[:, None] * logq + 0.3 * reward, logq, reward)["kappa"]
    weights = np.sum((logq - logq.mean(1, keepdims=True)) ** 2, axis=1)
    error = np.sqrt(np.sum((weights * (kappas - found["mean"])) ** 2)) / weights.sum()
    assert (found["high"] - found["low"]) / (2 * 1.96 * error) == pytest.approx(1, abs=0.08)  # 90 % would be 0.84
    close = logq + 1e-4 * 5 * reward  # 1 - correlation^2 of about 10^-8
    assert bootstrap_retention(0.8 * logq + 0.3 * close, logq, close)["tau"]["mean"] == pytest.approx(0.3, rel=1e-5)
