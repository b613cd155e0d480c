"use strict";
// Formulas of phi(p, q, length): read without evaluating, differentiated in p, compiled. The grammar is that of
// `python -m derivations derive`: numbers, + - * / **, log or ln, exp, sqrt, and the symbols below.
const Formula = (() => {
  const STRENGTHS = ["alpha", "beta", "gamma"];
  const SYMBOLS = ["p", "q", "length", "order", ...STRENGTHS];
  const FUNCTIONS = ["log", "ln", "exp", "sqrt"];
  const LONGEST = 1000, DEEPEST = 100;

  class Mistake extends Error {}

  // The nodes, simplified as they are made.
  const num = (value) => ({ op: "num", value });
  const sym = (name) => ({ op: "sym", name });
  const is = (node, value) => node.op === "num" && node.value === value;
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  function add(a, b) {
    if (is(a, 0)) return b;
    if (is(b, 0)) return a;
    return a.op === "num" && b.op === "num" ? num(a.value + b.value) : { op: "add", a, b };
  }
  function mul(a, b) {
    if (is(a, 0) || is(b, 0)) return num(0);
    if (is(a, 1)) return b;
    if (is(b, 1)) return a;
    if (a.op === "num" && b.op === "num") return num(a.value * b.value);
    if (b.op === "div" && same(a, b.b)) return b.a; // p * (1 / p) is 1 where p underflows, too
    return { op: "mul", a, b };
  }
  function div(a, b) {
    if (is(a, 0)) return a;
    if (is(b, 1)) return a;
    return same(a, b) ? num(1) : { op: "div", a, b };
  }
  function pow(a, b) {
    if (is(b, 1)) return a;
    return is(b, 0) ? num(1) : { op: "pow", a, b };
  }
  const positive = (x) => x.op === "num" ? x.value > 0 : x.op === "sym" || x.op === "exp" ? true
    : x.op === "pow" ? positive(x.a) : x.op === "log" ? false : positive(x.a) && positive(x.b);
  // The logarithm of a product of positive quantities is a sum: p may be e^-1000, its logarithm is -1000.
  function log(x) {
    if (x.op === "exp") return x.a;
    if (x.op === "pow" && positive(x.a)) return mul(x.b, log(x.a));
    if (x.op === "mul" && positive(x)) return add(log(x.a), log(x.b));
    if (x.op === "div" && positive(x)) return add(log(x.a), mul(num(-1), log(x.b)));
    return { op: "log", a: x };
  }

  function parse(text) {
    if (text.length > LONGEST) throw new Mistake(`at most ${LONGEST} characters are read`);
    const words = [...text.matchAll(/\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[A-Za-z_]\w*|\*\*|\S)/g)]
      .map((match) => match[1]);
    let place = 0, depth = 0;
    const take = (...wanted) => (wanted.includes(words[place]) ? words[place++] : null);
    function need(word) {
      if (!take(word)) throw new Mistake(`expected ${word} ${words[place] ? `before ${words[place]}` : "at the end"}`);
    }
    function sum() {
      if (++depth > DEEPEST) throw new Mistake("nested too deeply");
      let left = product();
      for (let sign; (sign = take("+", "-"));) left = add(left, sign === "+" ? product() : mul(num(-1), product()));
      depth--;
      return left;
    }
    function product() {
      let left = signed();
      for (let sign; (sign = take("*", "/"));) left = sign === "*" ? mul(left, signed()) : div(left, signed());
      return left;
    }
    function signed() {
      const sign = take("+", "-");
      if (!sign) return power();
      if (++depth > DEEPEST) throw new Mistake("nested too deeply");
      const value = signed();
      depth--;
      return sign === "-" ? mul(num(-1), value) : value;
    }
    function power() {
      const base = atom();
      return take("**") ? pow(base, signed()) : base;
    }
    function atom() {
      const word = words[place++];
      if (word === undefined) throw new Mistake("the formula ends too early");
      if (word === "(") {
        const inner = sum();
        need(")");
        return inner;
      }
      if (/^[\d.]/.test(word)) return num(Number(word));
      if (FUNCTIONS.includes(word)) {
        need("(");
        const inner = sum();
        need(")");
        return word === "exp" ? { op: "exp", a: inner } : word === "sqrt" ? pow(inner, num(0.5)) : log(inner);
      }
      if (SYMBOLS.includes(word)) return sym(word);
      throw new Mistake(/^\w/.test(word) ? `unknown symbol ${word} (known: ${[...SYMBOLS, ...FUNCTIONS].join(", ")})`
        : `${word} is not part of a formula`);
    }
    const tree = sum();
    if (place < words.length) throw new Mistake(`cannot read on at ${words[place]}`);
    return tree;
  }

  const has = (x, name) => x.op === "sym" ? x.name === name : ["a", "b"].some((k) => x[k] && has(x[k], name));

  function slope(x) { // d / dp
    const { op, a, b } = x;
    if (!has(x, "p")) return num(0);
    if (op === "sym") return num(1);
    if (op === "add") return add(slope(a), slope(b));
    if (op === "mul") return add(mul(slope(a), b), mul(a, slope(b)));
    if (op === "div") return add(div(slope(a), b), mul(num(-1), div(mul(a, slope(b)), mul(b, b))));
    if (op === "log") return div(slope(a), a);
    if (op === "exp") return mul(x, slope(a));
    if (!has(b, "p")) return mul(mul(b, pow(a, add(b, num(-1)))), slope(a));
    return mul(x, add(mul(slope(b), log(a)), div(mul(b, slope(a)), a)));
  }

  const NAMES = { p: "p", q: "q", length: "n", alpha: "c", beta: "c", gamma: "c" };
  const code = (x) => ({
    num: () => `(${x.value})`,
    sym: () => NAMES[x.name],
    add: () => `(${code(x.a)}+${code(x.b)})`,
    mul: () => `(${code(x.a)}*${code(x.b)})`,
    div: () => `(${code(x.a)}/${code(x.b)})`,
    pow: () => is(x.b, 0.5) ? `Math.sqrt(${code(x.a)})` : `Math.pow(${code(x.a)},${code(x.b)})`,
    exp: () => `Math.exp(${code(x.a)})`,
    log: () => x.a.op === "sym" && "pq".includes(x.a.name) ? (x.a.name === "p" ? "L" : "Q") : `Math.log(${code(x.a)})`,
  })[x.op]();

  // phi' of a formula as a function of p, q, log p, log q, length and the one open strength; `open` is its name.
  function compile(text) {
    const tree = parse(text);
    if (!has(tree, "p")) throw new Mistake("it does not contain p, the probability it is meant to regularize");
    const open = [...STRENGTHS, "order"].filter((name) => has(tree, name));
    if (open.length > 1 || open[0] === "order") throw new Mistake(`write numbers for ${open.join(" and ")}`);
    return { prime: new Function("p", "q", "L", "Q", "n", "c", `return ${code(slope(tree))}`), open: open[0] || null };
  }

  // What derive decides exactly is looked at here in places: phi' defined and increasing, and -oo at p = 0.
  function objection({ prime }, c) {
    for (const Q of [-14, -7, -3, -1]) for (const n of [0.5, 1, 2]) {
      const at = (L) => prime(Math.exp(L), Math.exp(Q), L, Q, n, c);
      let last = -Infinity;
      for (let L = -25; L < 0; L += 0.25) {
        const now = at(L);
        if (!Number.isFinite(now)) return `phi' is not a number at p = ${Math.exp(L).toPrecision(3)}`;
        if (now <= last) return `phi is not strictly convex near p = ${Math.exp(L).toPrecision(3)}`;
        last = now;
      }
      const [near, nearer, nearest] = [at(-170), at(-340), at(-680)];
      if (!(nearer - nearest > (near - nearer) / 2 && near > nearer)) return "no barrier at 0: phi' stays finite there";
    }
    return null;
  }

  return { compile, objection, Mistake };
})();
