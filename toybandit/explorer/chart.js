"use strict";
// One panel: two curves with their bands against an axis, as SVG. Told apart by dashes and not by colour alone.
const Chart = (() => {
  const WIDTH = 320, HEIGHT = 200, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 34;

  function ticks(low, high, count = 4) {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9 * step; v += step) found.push(+v.toFixed(10));
    return found;
  }
  const decades = (low, high) => {
    const found = [];
    for (let k = Math.ceil(Math.log10(low)); k <= Math.log10(high) + 1e-9; k++) found.push(10 ** k);
    return found;
  };
  const show = (v) => v !== 0 && (Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3) ? v.toExponential(0) : String(+v.toPrecision(4));

  // series: [{kind, x: [], y: [], low: [], high: []}]; x may be logarithmic; `law`: [[x, y], [x, y]] or null.
  function draw({ series, log = false, xLabel, zero = 0, law = null, name }) {
    const xs = series.flatMap((s) => s.x).concat(law ? law.map((point) => point[0]) : []);
    const ys = series.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]).concat(zero);
    let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    if (x1 - x0 < 1e-9) x1 = x0 + 1;
    const slack = 0.04 * (y1 - y0 || 1);
    [y0, y1] = [y0 - slack, y1 + slack];
    const scale = log ? (x) => Math.log(x / x0) / Math.log(x1 / x0) : (x) => (x - x0) / (x1 - x0);
    const X = (x) => (LEFT + scale(x) * (WIDTH - LEFT - RIGHT)).toFixed(1);
    const Y = (y) => (HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
    const path = (x, y) => x.map((v, i) => `${i ? "L" : "M"}${X(v)} ${Y(y[i])}`).join("");
    const parts = [];
    for (const v of ticks(y0, y1)) {
      parts.push(`<path class="grid" d="M${LEFT} ${Y(v)}H${WIDTH - RIGHT}"/>`);
      parts.push(`<text x="${LEFT - 5}" y="${+Y(v) + 4}" text-anchor="end">${show(v)}</text>`);
    }
    for (const v of log ? decades(x0, x1) : ticks(x0, x1)) {
      parts.push(`<path class="grid" d="M${X(v)} ${TOP}V${HEIGHT - BOTTOM}"/>`);
      parts.push(`<text x="${X(v)}" y="${HEIGHT - BOTTOM + 14}" text-anchor="middle">${show(v)}</text>`);
    }
    parts.push(`<path class="zero" d="M${LEFT} ${Y(zero)}H${WIDTH - RIGHT}"/>`);
    parts.push(`<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 4}" text-anchor="middle">${xLabel}</text>`);
    if (law) parts.push(`<path class="law" d="${path(law.map((p) => p[0]), law.map((p) => p[1]))}"/>`);
    for (const s of series) {
      if (s.low) {
        const back = path([...s.x].reverse(), [...s.low].reverse()).replace("M", "L");
        parts.push(`<path class="band ${s.kind}" d="${path(s.x, s.high)}${back}Z"/>`);
      }
      parts.push(`<path class="${s.kind}" d="${path(s.x, s.y)}"/>`);
      parts.push(`<circle class="${s.kind}" r="3.5" cx="${X(s.x.at(-1))}" cy="${Y(s.y.at(-1))}"/>`);
    }
    return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${name}">${parts.join("")}</svg>`;
  }

  return { draw };
})();
