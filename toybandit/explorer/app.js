"use strict";
// The controls, the computation world by world, and what is shown of it.
(() => {
  const $ = (id) => document.getElementById(id);
  const packed = JSON.parse($("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (text) => Float64Array.from(new Float32Array(bytes(text).buffer));
  const each = (object, f) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, f(value)]));
  const data = { ...packed, gold: floats(packed.gold), ref: floats(packed.ref), length: floats(packed.length),
    rare: each(packed.rare, bytes), fitted: each(packed.fitted, floats), noise: each(packed.noise, floats) };
  const STRENGTHS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2], MAP_WORLDS = Math.min(6, data.worlds), LOST = 0.05;
  const NUMBERS = [["proxy", "proxy gain", "reward units"], ["gold", "gold gain", "reward units"],
    ["lost", "gold lost after its peak, proxy still rising", "reward units"], ["kl", "KL from the reference", "nats"],
    ["kappa", "retention of the reference, kappa", "1"], ["tau", "reward pressure, tau", "1 / reward unit"],
    ["rare", "mass on responses compared 5 times or less", "share"]];

  const round = (value) => Number(value.toPrecision(2));
  const digits = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1");
  const text = ({ mean, low, high }) => `${digits(mean)} [${digits(low)}, ${digits(high)}]`;
  const escape = (words) => words.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

  // What the controls say. `rule` is null for none; raises Formula.Mistake.
  function read() {
    const name = $("regularizer").value, formula = $("formula").value.trim();
    const rule = name === "none" ? null : Formula.compile(formula);
    const coefficient = round(10 ** $("strength").value);
    const why = rule && Formula.objection(rule, coefficient);
    if (why) throw new Formula.Mistake(`${why}; \`python -m derivations derive\` says more`);
    return { name, formula, rule, coefficient, prime: rule && rule.prime, proxy: $("proxy").value,
      error: data.errors[$("error").value], pairs: data.pairs[$("pairs").value], optimizer: $("optimizer").value,
      lr: round(10 ** $("lr").value), steps: Number($("steps").value) };
  }
  const without = (setting) => ({ ...setting, name: "none", rule: null, prime: null });
  const label = ({ name, formula, rule, coefficient }) => name === "none" ? "none"
    : (name === "own" ? formula : name) + (rule.open ? ` ${coefficient}` : "");

  function command(s) {
    const words = ["python -m toybandit run", "--regularizer", s.name === "own" ? `"${s.formula}"` : s.name];
    if (s.rule && s.rule.open) words.push("--coefficient", s.coefficient);
    words.push("--proxy", s.proxy, "--pairs", s.pairs);
    if (s.proxy === "fitted") words.push("--prior-scale", s.error);
    else if (s.proxy !== "exact") words.push("--noise", s.error);
    if (s.optimizer === "adam") words.push("--optimizer adam");
    if (s.optimizer === "natural") words.push("--method natural");
    words.push("--lr", s.lr, "--steps", s.steps, "--seeds", data.worlds, "--seed", data.seed, "--dtype float64");
    return words.join(" ");
  }

  // Runs of worlds one by one; between them the page answers, and a newer setting ends the older one's work.
  let newest = 0;
  async function computed(setting, alive, onWorld, worlds = data.worlds) {
    const proxies = Simulation.proxyOf(data, setting), runs = [];
    for (let i = 0; i < worlds; i++) {
      await new Promise((resolve) => setTimeout(resolve));
      if (!alive()) throw new DOMException("a newer setting", "AbortError");
      const run = Simulation.runWorld(data, proxies, setting, i);
      if (!run) return null;
      runs.push(run);
      onWorld();
    }
    return Simulation.summarize(data, runs);
  }

  const series = (kind, found, x, name) => ({ kind, x, y: found.curves[name].slice(1).map((v) => v.mean),
    low: found.curves[name].slice(1).map((v) => v.low), high: found.curves[name].slice(1).map((v) => v.high) });
  const path = (kind, found, x, y) => ({ kind, x: found.curves[x].map((v) => v.mean), y: found.curves[y].map((v) => v.mean) });

  function panels(setting, both) {
    const t = data.logged[setting.steps].slice(1).map((step) => step * setting.lr);
    const time = (name, zero = 0) => ({ series: Object.entries(both).map(([k, f]) => series(k, f, t, name)), log: true,
      xLabel: "time t = step size × steps", zero });
    const plane = (x, y, xLabel, zero) => ({ series: Object.entries(both).map(([k, f]) => path(k, f, x, y)), xLabel, zero });
    const alpha = { none: 0, kl: 0, entropy: setting.coefficient }[setting.name];
    const far = Math.min(Math.max(...Object.values(both).map((f) => f.curves.tau.at(-1).mean)), alpha ? 1 / alpha : Infinity);
    const law = alpha === undefined ? null : [[0, 1], [far, 1 - alpha * far]];
    const drawn = [
      ["Gold gain", "reward units", "True reward above the reference's: overoptimization is a fall.", time("gold")],
      ["Proxy gain", "reward units", "What the policy climbs.", time("proxy")],
      ["KL from the reference", "nats", "How far the policy has gone.", time("kl")],
      ["Gold gain against KL", "reward units", "What each nat buys; the dot is the end.",
        plane("kl", "gold", "KL from the reference (nats)", 0)],
      ["Retention plane", "kappa", `Share of the reference kept against reward pressure${law ? "; dotted: the law of natural gradient" : ""}.`,
        { ...plane("tau", "kappa", "tau (1 / reward unit)", 1), law }],
      ["Mass on rarely compared", "share", "Where the proxy was compared 5 times or less, it is most often wrong.", time("rare")],
    ];
    $("panels").innerHTML = drawn.map(([name, unit, says, what]) => `<figure><b>${name}</b> <small>${unit}</small>`
      + `${Chart.draw({ ...what, name: `${name}. ${says}` })}<figcaption>${says}</figcaption></figure>`).join("");
  }

  function verdict(setting, { setting: own, none }) {
    const sentence = ({ final, curves }) => {
      const peak = Math.max(...curves.gold.map((v) => v.mean));
      const fell = final.lost.low > 0 && final.lost.mean > LOST;
      return `gold ends at <b>${text(final.gold)}</b>` + (fell ? ` after a peak of ${peak.toFixed(2)}: `
        + `<b>${text(final.lost)}</b> is lost while the proxy still rises` : ", and hardly any is lost on the way");
    };
    const gap = own ? own.final.gold.mean - none.final.gold.mean : 0;
    $("verdict").innerHTML = (own ? `Under <b>${escape(label(setting))}</b> ${sentence(own)}. ` : "")
      + `Without a regularizer ${sentence(none)}.`
      + (own ? ` Here the regularizer ${gap < 0 ? "costs" : "gains"} ${Math.abs(gap).toFixed(2)} of gold.` : "");
  }

  function numbers(both, setting) {
    const columns = Object.entries(both), names = { setting: escape(label(setting)), none: "none" };
    const head = columns.map(([kind]) => `<th scope="col">${names[kind]}</th>`).join("");
    const rows = NUMBERS.map(([name, title, unit]) => `<tr><th scope="row">${title}</th>${columns.map(([kind, { final }]) =>
      `<td data-kind="${kind}" data-name="${name}" data-mean="${final[name].mean}">${text(final[name])}</td>`).join("")}<td>${unit}</td></tr>`).join("");
    const caption = $("numbers").querySelector("caption").outerHTML;
    $("numbers").innerHTML = `${caption}<thead><tr><td></td>${head}<td></td></tr></thead><tbody>${rows}</tbody>`;
  }

  const kept = new Map(); // runs without regularizer, by what decides them
  async function control(setting, alive, onWorld) {
    const key = JSON.stringify([setting.proxy, setting.error, setting.pairs, setting.optimizer, setting.lr, setting.steps]);
    if (!kept.has(key)) kept.set(key, await computed(without(setting), alive, onWorld));
    return kept.get(key);
  }

  async function compute(setting, mine) {
    const alive = () => mine === newest, total = data.worlds * (setting.rule ? 2 : 1);
    let done = 0;
    const onWorld = () => { $("progress").value = ++done / total; };
    $("progress").className = "";
    const none = await control(setting, alive, onWorld);
    const own = setting.rule ? await computed(setting, alive, onWorld) : null;
    if (!alive()) return;
    $("progress").className = "done";
    if (!none || (setting.rule && !own)) {
      $("verdict").textContent = "The policy diverged: lower the step size or the strength.";
      $("panels").innerHTML = "";
      return;
    }
    const both = own ? { setting: own, none } : { none };
    verdict(setting, { setting: own, none });
    $("key").innerHTML = (own ? `<span><i></i>${escape(label(setting))}</span>` : "") + '<span><i class="none"></i>without a regularizer</span>';
    panels(setting, both);
    numbers(both, setting);
    document.body.dataset.shown = location.hash;
  }

  async function sideBySide(setting, alive) {
    const table = $("optimizers").querySelector("table"), rows = [];
    const names = { sgd: "softmax gradient", adam: "softmax gradient, Adam", natural: "natural gradient" };
    for (const [optimizer, name] of Object.entries(names)) {
      const s = { ...setting, optimizer, lr: optimizer === "sgd" ? 0.2 : 0.02, steps: Math.max(...Object.keys(data.logged)) };
      const none = await control(s, alive, () => {}), own = s.rule ? await computed(s, alive, () => {}) : none;
      const cells = [own, none].map((f) => f ? `<td>${text(f.final.gold)}</td><td>${text(f.final.lost)}</td>`
        : "<td>diverged</td><td></td>").join("");
      rows.push(`<tr><th scope="row">${name}</th>${cells}</tr>`);
      table.innerHTML = `<thead><tr><td></td><th>gold gain, ${escape(label(setting))}</th><th>gold lost</th>`
        + `<th>gold gain, none</th><th>gold lost</th></tr></thead><tbody>${rows.join("")}</tbody>`;
    }
  }

  // Shades from dark (low) to light (high), told apart in grey too.
  function shade(cell, share) {
    const mix = [[0, 32, 77], [124, 123, 120], [255, 234, 70]], place = Math.min(1.999, 2 * share), i = Math.floor(place);
    cell.style.background = `rgb(${mix[i].map((c, k) => Math.round(c + (place - i) * (mix[i + 1][k] - c)))})`;
    cell.className = share < 0.5 ? "dark" : "";
  }

  async function drawMap(setting, alive) {
    const table = $("map").querySelector("table"), fitted = setting.proxy === "fitted";
    $("map-worlds").textContent = MAP_WORLDS;
    const open = setting.rule && setting.rule.open, columns = open ? [0, ...STRENGTHS] : setting.rule ? [0, null] : [0];
    const levels = fitted ? data.pairs : setting.proxy === "exact" ? [0] : data.errors;
    table.innerHTML = `<thead><tr><th>${fitted ? "pairs" : "noise"}</th>${columns.map((c) => `<th scope="col">${c === 0 ? "none"
      : c === null ? "own" : c}</th>`).join("")}</tr></thead>` + levels.map((level) => `<tr><th scope="row">${level}</th>${
      columns.map(() => "<td>…</td>").join("")}</tr>`).join("");
    const found = [];
    for (const [i, level] of levels.entries()) for (const [j, c] of columns.entries()) {
      const s = { ...(c === 0 ? without(setting) : { ...setting, coefficient: c || setting.coefficient }),
        ...(fitted ? { pairs: level } : { error: level }) };
      const result = await computed(s, alive, () => {}, MAP_WORLDS), cell = table.rows[i + 1].cells[j + 1];
      cell.textContent = result ? result.final.gold.mean.toFixed(2) : "diverged";
      if (result) found.push([cell, result.final.gold.mean]);
      const values = found.map(([, v]) => v), low = Math.min(...values), high = Math.max(...values);
      for (const [other, v] of found) shade(other, high > low ? (v - low) / (high - low) : 1);
    }
  }

  const SHARED = ["regularizer", "formula", "strength", "proxy", "error", "pairs", "optimizer", "lr", "steps"];
  function labels() {
    const proxy = $("proxy").value, name = $("regularizer").value;
    $("strength-value").value = round(10 ** $("strength").value);
    $("error-name").textContent = proxy === "fitted" ? "Spread of its initial rewards" : "Error of the proxy";
    $("error-value").value = data.errors[$("error").value];
    $("pairs-value").value = data.pairs[$("pairs").value];
    $("lr-value").value = round(10 ** $("lr").value);
    $("error").disabled = proxy === "exact";
    $("formula").disabled = $("strength").disabled = name === "none";
  }

  function changed() {
    labels();
    const mine = ++newest;
    let setting;
    try {
      setting = read();
      $("mistake").textContent = "";
      $("strength").disabled = !setting.rule || !setting.rule.open;
    } catch (mistake) {
      if (!(mistake instanceof Formula.Mistake)) throw mistake;
      $("mistake").textContent = mistake.message;
      return;
    }
    $("command").value = command(setting);
    history.replaceState(null, "", `#${new URLSearchParams(SHARED.map((id) => [id, $(id).value]))}`);
    const alive = () => mine === newest;
    compute(setting, mine)
      .then(() => $("optimizers").open && sideBySide(setting, alive))
      .then(() => $("map").open && drawMap(setting, alive))
      .catch((error) => { if (error.name !== "AbortError") throw error; });
  }

  function start() {
    const names = [...Object.keys(data.formulas), "own", "none"];
    $("regularizer").innerHTML = names.map((name) => `<option value="${name}">${name === "own" ? "my own formula" : name}</option>`).join("");
    $("steps").innerHTML = Object.keys(data.logged).map((n) => `<option>${n}</option>`).join("");
    $("error").max = data.errors.length - 1;
    $("pairs").max = data.pairs.length - 1;
    const standard = { regularizer: "entropy", strength: -0.3, proxy: "fitted", error: data.errors.indexOf(1),
      pairs: data.pairs.indexOf(300), optimizer: "sgd", lr: -0.7, steps: 2500, formula: data.formulas.entropy };
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    for (const id of SHARED) $(id).value = given[id] ?? standard[id];
    $("regularizer").addEventListener("change", () => {
      const name = $("regularizer").value;
      if (data.formulas[name]) $("formula").value = data.formulas[name];
    });
    $("formula").addEventListener("input", () => { $("regularizer").value = "own"; });
    $("optimizer").addEventListener("change", () => { $("lr").value = $("optimizer").value === "sgd" ? -0.7 : -1.7; });
    for (const id of SHARED) $(id).addEventListener("input", changed);
    for (const id of ["optimizers", "map"]) $(id).addEventListener("toggle", () => $(id).open && changed());
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    $("copy").addEventListener("click", async () => {
      $("command").select();
      if (navigator.clipboard) await navigator.clipboard.writeText($("command").value).catch(() => document.execCommand("copy"));
      else document.execCommand("copy");
      $("copy").textContent = "Copied";
      setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
    });
    changed();
  }

  window.explorer = { data, simulate: (setting) => Simulation.simulate(data, setting) };
  start();
})();
