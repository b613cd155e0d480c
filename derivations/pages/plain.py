"""LaTeX formulas of claims as plain text for a terminal: beta/|w| for a fraction, pi for a Greek letter."""

import re

SIGNS = {
    "succ": ">", "ne": "!=", "ge": ">=", "le": "<=", "to": "->", "Rightarrow": "=>", "iff": "<=>", "infty": "oo",
    "cdot": "*", "pm": "+-", "in": "in", "mid": "|", "dots": "...", "mapsto": "->", "exists": "there is",
    "nabla": "grad", "partial": "d", "ell": "loss", "quad": " ", "qquad": "  ", "int": "integral",
}  # fmt: skip
WRAPPED = ("text", "mathrm", "dot", "hat", "bar", "overline")
GROUP = r"\{((?:[^{}]|\{[^{}]*\})*)\}"  # what is in braces, one more pair inside


def plain(latex: str) -> str:
    """The formula as a person types it; what the table does not know keeps its name."""
    text = re.sub(r"\\(?:Big|big|left|right)\b", "", latex)
    text = re.sub(r"\\[,;! ]", " ", text).replace(r"\|", "||").replace(r"\{", "(").replace(r"\}", ")")
    for name in WRAPPED:
        text = re.sub(rf"\\{name}{GROUP}", r" \1", text)
    text = re.sub(r"\\[td]?frac *(\w)(\w)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\[td]?frac *(\w)(\{)", r"\\frac{\1}\2", text)
    text = _fractions(text.replace(r"\tfrac", r"\frac"))
    text = re.sub(r"\\([A-Za-z]+) ?", lambda m: f" {SIGNS.get(m[1], m[1])} ", text)
    text = re.sub(rf"([\^_]) *{GROUP}", lambda m: f"{m[1]}{_bracketed(m[2])}", text)
    text = text.replace("{", "").replace("}", "")
    text = re.sub(r" +", " ", text)
    text = re.sub(r"(?<=[(\[/^_]) | (?=[)\],/^_;])", "", text)  # no blanks inside brackets or around quotients
    return re.sub(r"(?<![/\w])(\w+) \(", r"\1(", text).strip()


def _fractions(text: str) -> str:
    """Every fraction as a quotient, the innermost first; a logarithm takes it into its brackets."""
    while (start := text.rfind(r"\frac{")) >= 0:
        above, middle = _group(text, start + len(r"\frac"))
        below, end = _group(text, middle)
        quotient = f"{_bracketed(above)}/{_bracketed(below)}"
        before = text[:start].rstrip()
        text = f"{before}({quotient}){text[end:]}" if before.endswith(r"\log") else f"{before} {quotient} {text[end:]}"
    return text


def _group(text: str, start: int) -> tuple[str, int]:
    """What is in the braces that begin there, and where it goes on."""
    start = text.index("{", start)
    depth, end = 1, start + 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return text[start + 1 : end - 1], end


def _bracketed(text: str) -> str:
    text = text.strip()
    alone = re.fullmatch(r"[\w.]+|\\\w+|\|[^|]*\||\\?\w+\((?:\\?\w)*\)", text)
    return text if alone else f"({text})"
