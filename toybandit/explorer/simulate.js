"use strict";
// One policy per world climbs proxy minus regularizer, as `toybandit.online` does, in double precision.
const Simulation = (() => {
  const METRICS = ["proxy", "gold", "kl", "kappa", "tau", "rare"];

  // Numbers of world i: arrays of prompts * arms.
  function worldOf(data, proxies, i) {
    const size = data.prompts * data.arms, from = i * size;
    const cut = (array) => array.subarray(from, from + size);
    const [gold, ref, length, reward, rare] = [data.gold, data.ref, data.length, proxies.reward, proxies.rare].map(cut);
    return { gold, ref, length, reward, rare, q: Float64Array.from(ref, Math.exp) };
  }

  // The reward of a proxy: fitted to `pairs` with a spread of initial rewards `error`, or gold plus `error` times noise.
  function proxyOf(data, { proxy, pairs, error }) {
    const rare = data.rare[pairs];
    if (proxy === "exact") return { reward: data.gold, rare };
    if (proxy === "fitted") return { reward: data.fitted[`${pairs} ${error}`], rare };
    return { reward: data.gold.map((gold, i) => gold + error * data.noise[proxy][i]), rare };
  }

  // Log-probs of logits, prompt by prompt, into `logp`, and probabilities into `p`.
  function normalize(logits, arms, logp, p) {
    for (let start = 0; start < logits.length; start += arms) {
      let top = -Infinity, total = 0;
      for (let i = start; i < start + arms; i++) if (logits[i] > top) top = logits[i];
      for (let i = start; i < start + arms; i++) total += p[i] = Math.exp(logits[i] - top);
      const log = top + Math.log(total);
      for (let i = start; i < start + arms; i++) {
        p[i] /= total;
        logp[i] = logits[i] - log;
      }
    }
  }

  // Sums that a least-squares fit of log pi = kappa log q + tau r needs, over all responses, weighted by q.
  function measure(world, arms, logp, p) {
    const { q, ref, reward, gold, rare } = world, prompts = q.length / arms;
    const out = { proxy: 0, gold: 0, kl: 0, rare: 0 };
    let rr = 0, rg = 0, gg = 0, cr = 0, cg = 0;
    for (let start = 0; start < q.length; start += arms) {
      let meanRef = 0, meanGain = 0, meanChange = 0;
      for (let i = start; i < start + arms; i++) {
        const change = logp[i] - ref[i];
        out.proxy += (p[i] - q[i]) * reward[i] / prompts;
        out.gold += (p[i] - q[i]) * gold[i] / prompts;
        out.kl += p[i] * change / prompts;
        out.rare += p[i] * rare[i] / prompts;
        meanRef += q[i] * ref[i];
        meanGain += q[i] * reward[i];
        meanChange += q[i] * change;
      }
      for (let i = start; i < start + arms; i++) {
        const x = ref[i] - meanRef, y = reward[i] - meanGain, z = logp[i] - ref[i] - meanChange;
        rr += q[i] * x * x;
        rg += q[i] * x * y;
        gg += q[i] * y * y;
        cr += q[i] * z * x;
        cg += q[i] * z * y;
      }
    }
    const determinant = rr * gg - rg * rg;
    return { ...out, kappa: 1 + (cr * gg - cg * rg) / determinant, tau: (cg * rr - cr * rg) / determinant };
  }

  // The direction of ascent: pi (a - E a) of the softmax gradient, a - E a of the natural one; a = r - phi'.
  function direct(world, arms, logp, p, prime, c, natural, out) {
    const { reward, ref, q, length } = world;
    for (let start = 0; start < out.length; start += arms) {
      let mean = 0;
      for (let i = start; i < start + arms; i++) {
        out[i] = reward[i] - (prime ? prime(p[i], q[i], logp[i], ref[i], length[i], c) : 0);
        mean += p[i] * out[i];
      }
      for (let i = start; i < start + arms; i++) out[i] = natural ? out[i] - mean : p[i] * (out[i] - mean);
    }
  }

  function ascend({ lr, optimizer }, size) {
    const mean = new Float64Array(size), square = new Float64Array(size);
    let steps = 0;
    return (theta, direction) => {
      steps++;
      if (optimizer !== "adam") for (let i = 0; i < size; i++) theta[i] += lr * direction[i];
      else {
        const scale = lr / (1 - 0.9 ** steps), correct = 1 - 0.999 ** steps;
        for (let i = 0; i < size; i++) {
          mean[i] = 0.9 * mean[i] + 0.1 * direction[i];
          square[i] = 0.999 * square[i] + 0.001 * direction[i] * direction[i];
          theta[i] += scale * mean[i] / (Math.sqrt(square[i] / correct) + 1e-8);
        }
      }
    };
  }

  // One world, all steps: {metric: [logged times]}; null if it diverged.
  function runWorld(data, proxies, setting, i) {
    const world = worldOf(data, proxies, i), { arms } = data, size = world.q.length;
    const theta = Float64Array.from(world.ref), logp = Float64Array.from(world.ref), p = Float64Array.from(world.q);
    const direction = new Float64Array(size), step = ascend(setting, size);
    const rows = Object.fromEntries(METRICS.map((name) => [name, []]));
    let done = 0;
    for (const logged of data.logged[setting.steps]) {
      for (; done < logged; done++) {
        direct(world, arms, logp, p, setting.prime, setting.coefficient, setting.optimizer === "natural", direction);
        step(theta, direction);
        normalize(theta, arms, logp, p);
      }
      const found = measure(world, arms, logp, p);
      if (!Number.isFinite(found.kl)) return null;
      for (const name of METRICS) rows[name].push(found[name]);
    }
    return rows;
  }

  // Gold lost after its peak, if the proxy at the end is at least the proxy there; else 0.
  function lost({ proxy, gold }) {
    const peak = gold.indexOf(Math.max(...gold)), end = gold.length - 1;
    return proxy[end] >= proxy[peak] ? gold[peak] - gold[end] : 0;
  }

  // Mean and 95 % interval over worlds; t: Student's quantile for their number.
  function interval(values, t) {
    const n = values.length, mean = values.reduce((a, b) => a + b, 0) / n;
    const half = t[n] * Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1) / n);
    return { mean, low: mean - half, high: mean + half };
  }

  // What worlds found, together: curves {metric: [interval per logged time]} and final {metric: interval}.
  function summarize(data, runs) {
    const over = (values) => interval(values, data.student);
    const curves = Object.fromEntries(
      METRICS.map((name) => [name, runs[0][name].map((_, k) => over(runs.map((run) => run[name][k])))]));
    const final = Object.fromEntries(METRICS.map((name) => [name, curves[name].at(-1)]));
    return { curves, final: { ...final, lost: over(runs.map(lost)) } };
  }

  // Everything at once; the page does it world by world, so that it stays awake.
  function simulate(data, setting) {
    const proxies = proxyOf(data, setting), runs = [];
    for (let i = 0; i < data.worlds; i++) {
      const found = runWorld(data, proxies, setting, i);
      if (!found) return null;
      runs.push(found);
    }
    return summarize(data, runs);
  }

  return { proxyOf, runWorld, summarize, simulate };
})();
