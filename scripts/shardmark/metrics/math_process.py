"""math-verify in a separate process: a model's text, such as 9^9^9^9, may take unlimited time and memory.

Run as a command, this file is that process: it reads pairs of texts and writes whether they mean the same, in JSON.
"""

import json
import os
import re
import resource
import select
import subprocess
import sys
from decimal import Decimal
from types import TracebackType
from typing import Self

from shardmark.installation import SCRIPTS
from shardmark.texts.boxes import boxes
from shardmark.texts.numbers import MAGNITUDES, SUPERSCRIPT, SUPERSCRIPTS, VULGAR, in_ascii
from shardmark.texts.quantities import contradict, same_time
from shardmark.texts.wording import FOREIGN_ANSWER

SECONDS = 30.0
"Seconds that a pair may take; math-verify itself gives up after 5 s if it can."
MEMORY_BYTES = 4 << 30
LONGEST = 20_000
"The most characters of an answer that are read, from its end."
FORMULA = 80
"The most characters of an answer that is tried as a formula."
DELIMITERS = re.compile(r"(?<!\\)\$|\\f?boxed|(?<!\\)\\[(\[]|\\begin\{(?:equation|align|gather|displaymath|math\b)")
"Marks of LaTeX in a text. A matrix is a formula itself, and two backslashes before a bracket end a row of it."
MARKS = (
    (re.compile(r"\*\*([^*\n]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w)}\]$.])[\u2010-\u2013](?=\$?\d)"), "-"),
    (re.compile(r"(?:\bnegative|(?<![\d)}]\s)(?<!\b\w\s)\bminus)\s(\$?)(?=\d)"), r"\1-"),
    (re.compile(r"(?<=\d) and (?:a|one) half\b"), " 1/2"),
    (re.compile(r"\\boxed\s+(?=\{)|(?<![\\\w])(?:\x08o|bo)xed\s?(?=\{)"), r"\\boxed"),
    (re.compile(r"(?<!\\)~|</?answer>"), " "),
    (re.compile(r"(?<=\d)\.(?=\s?\})"), ""),
    (re.compile(r"\\\$|[€£¥](?=\s?\d)"), ""),
    (re.compile(r"(?<=\d)\{,\}(?=\d)"), ","),
    (re.compile(r"(?<=\d)(?:,?(?<!\\)\\[!,;: ]|[\u00a0\u2009\u202f])(?=\d{3})"), ""),
    (re.compile(r"(?<=[\d}])\s?(?:或者?|和|与|및|又は)\s?(?=[-\d\\])"), " or "),
    (re.compile(r"\\varnothing(?![a-z])"), r"\\emptyset"),
    (re.compile(r"√\s?(\w+|\([^()]{1,40}\))"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?!\w)"), r"\1 \\times 10^{\2}"),
    (re.compile(r"(?<=[\u2e80-\u9fff\uac00-\ud7af])(?=[-\d$\\])|(?<=\d)(?=[\u2e80-\u9fff\uac00-\ud7af])"), " "),
)
"Notations that math-verify cannot read: bold, currencies, separators, signs, roots, exponents, digits beside Chinese."
MIXED = re.compile(r"(?<![\d/.])(\d{1,6}) (\d{1,6})/(\d{1,6})(?![\d/.])")
REPEATING = re.compile(r"(\d{0,9})\.(\d{0,9})\\overline\{?(\d{1,9})\}?")
SYMBOLS = {ord("∞"): r"\infty ", ord("∅"): r"\emptyset ", ord("∪"): r"\cup ", ord("∩"): r"\cap ", ord("·"): "*"}
"Signs that math-verify can read in LaTeX only. In prose they stay, since a backslash would make it a formula."
POWERS = re.compile(rf"(?<=[\dxyz)]){SUPERSCRIPT.pattern}")
SPACED = re.compile(r"(?<![\d.,/])[1-9]\d{0,2}(?: \d{3})+(?![\d/])")
PI = re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])")
PI_SIGN = r"\\pi "
APART = re.compile(r"(?<=\d)(?:\s|\\[,;: ])+(?=\d)")
SPACING = re.compile(r"\s|(?<!\\)\\[!,;: ]|\\(?:left|right)(?![a-z])|(?<!\\)\$")
WORDS = re.compile(r"\\(?:text|mbox|mathrm|textrm)\s?\{([^{}]*)\}")
BOX = re.compile(r"\\f?boxed")
JOINED = re.compile(r"\\f?boxed[^\n]*\}[\s$]*(?:\\text\{)?[\s,;]*(?:and|or)?[\s}$]*")
"A box and what joins it to the next one."
BASE = re.compile(r"\d_\{?(\d{1,2})\}?")
NOT_NUMBER = re.compile(r"\bnot\s+[-$\\]*\d[\d.,/]*")
ANSWER = rf"(?:\banswers?\b|{FOREIGN_ANSWER})(?:\s?(?:is|are|ist|est|es|é|è|为|為|是|は))?"
HOPE = r"(?:\.\s*I hope it is correct)?[\s.*]*\Z"
ENDING = (
    r"[\s:=*]*(?P<formula>(?:(?!\banswers?\b|(?<![\\{A-Za-z])(?!and\b|sqrt|log|sin|cos|tan|exp)[A-Za-z]{3})[^\n]){1,80}?)"
) + HOPE
STATED = re.compile(ANSWER + ENDING, re.IGNORECASE)
"A formula without dollar signs that ends the text, after the word for answer."
CONCLUDED = re.compile(rf"(?:{ANSWER}|\b(?:is|are|be|equals?|get|have|gives)\b|=|\n|\A){ENDING}", re.IGNORECASE)
"The same after other words or alone, in a text without any dollar sign."
NAME = re.compile(r"[A-Za-z][A-Za-z' -]{2,40}")
EQUATION = re.compile(r"[\d)}]\s?=")
LISTED = re.compile(r"(?<=[\d)}])(?:, |,? (?:and|or) )(?=[-+(\\]?\d|[a-z]\s?=)")
FORMULA_IN_TEXT = re.compile(
    r"\d\s?[xyz]\b|[xyz]\s?[-+*/^<>\u2264\u2265]|\d(?:[i\u03c0]|\s?pi)\b|\d\^\{|\b(?:log|ln|sin|cos|tan|sqrt|exp)\b"
)
"Marks of a formula in plain text: the number in it is not its value."
RUN = re.compile(
    r"(?:(?:(?:\\sqrt|\^)\{[^{}]*\}|[-\d+*/^=<>\u2264\u2265()\u03c0]|[.,](?=\d)|\b(?:log|ln|sin|cos|tan|sqrt|exp)\b"
    r"|(?<![^\W\d])(?:[ixyz]|pi)\b)[^\S\n]?)+"
)
"What may be a formula in plain text."
SENTENCE = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}\s")
"The beginning of a sentence, which is not a formula as a whole."
MAGNITUDE = re.compile(
    r"(?<![\d.])(\d[\d,]{0,20}(?:\.\d{1,20})?)((?:[\s~$]|\\[,; ]|\\(?:text|mbox|mathrm)\s?\{\s?){1,4})"
    rf"({'|'.join(filter(str.isascii, MAGNITUDES))})s?\b",
    re.IGNORECASE,
)


class MathProcess:
    """Compares texts; started at the first call, and again after a pair that it did not survive."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def equal(self, answer: str, reference: str) -> bool:
        """Whether both texts mean the same; false if that cannot be determined within the limits."""
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps([answer[-LONGEST:], reference]).encode() + b"\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], SECONDS)[0] and (line := process.stdout.readline()):
                return json.loads(line) is True
        except BrokenPipeError:
            pass
        self._stop()
        return False

    def _start(self) -> "subprocess.Popen[bytes]":
        paths = [SCRIPTS, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            with process:
                pass


def same(answer: str, reference: str) -> bool:
    """Whether both texts mean the same number or formula. LaTeX may lack its $.

    An answer without marks of LaTeX is prose with a number in it or, if it is short, a formula such as `(1, 2)`.
    """
    from math_verify import parse, verify

    answer, reference = _readable(answer), _readable(reference)
    if answer.strip() == reference.strip() or (_bare(answer) and _bare(answer) == _bare(reference)):
        return True
    if _is_named(answer, reference):
        return True
    if _bases(answer) and _bases(reference) and _bases(answer) != _bases(reference):
        return False
    right = parse(_as_formula(reference))
    plain = not _is_marked(answer)
    stated = _stated(answer, plain)
    if LISTED.search(stated) and not EQUATION.search(stated):
        return bool(verify(right, parse(_as_formula(LISTED.sub(", ", stated)))))
    answer = NOT_NUMBER.sub("", answer) if plain else answer
    boxed = _last_boxes(answer)
    on_time = same_time(boxed, reference)
    if on_time is not None or contradict(boxed, reference):
        return bool(on_time)
    last = _last_run(answer) if plain else ""
    latex = "\\" in answer.replace("\\sqrt{", "")
    is_formula = not latex and bool("\\" in last or FORMULA_IN_TEXT.search(last))
    prose = not plain or not (is_formula or latex)
    readings = [boxed] if boxed.startswith("$") else [answer, boxed]
    if prose and any(verify(right, parse(each)) for each in dict.fromkeys(readings)):
        return True
    if is_formula and verify(right, parse(_as_formula(last))):
        return True
    short = len(answer.strip()) <= FORMULA and "\n" not in answer.strip()
    stated = "" if stated.strip() == answer.strip() else stated
    whole = plain and (latex or short) and not (stated or (is_formula and SENTENCE.match(answer)))
    if whole and verify(right, parse(_as_formula(answer))):
        return True
    if not stated or (is_formula and stated == last) or (plain and stated.isdecimal()):
        return False
    return _bare(stated) == _bare(reference) or bool(verify(right, parse(_as_formula(stated))))


def _is_named(answer: str, reference: str) -> bool:
    """Whether the reference is words, such as a name, and the answer is these, or ends in them after `answer`."""
    words = WORDS.sub(r"\1", (boxes(reference) or [reference])[-1]).strip(" $.")
    named = rf"(?:\A|{ANSWER})[\s:]*{re.escape(words)}{HOPE}"
    return bool(NAME.fullmatch(words) and re.search(named, answer[-4 * FORMULA :], re.IGNORECASE))


def _stated(text: str, plain: bool) -> str:
    """The formula that ends a text without a box, if it has no dollar signs; else an empty text."""
    if BOX.search(text):
        return ""
    found = (CONCLUDED if plain else STATED).search(text, max(0, len(text) - 2 * FORMULA))
    return found["formula"] if found and not _is_marked(found["formula"]) else ""


def _last_boxes(text: str) -> str:
    """The text from its last box on, or a formula of its last boxes where commas or words such as `and` join them.

    Without dollar signs, math-verify takes all boxes for a set, even if the first one was taken back; with them, only
    the last one.
    """
    starts = [found.start() for found in BOX.finditer(text)]
    last = starts[-1:]
    while len(starts) > 1 and JOINED.fullmatch(text, starts[-2], starts[-1]):
        starts.pop()
    if starts[-1:] == last:
        return text[starts[-1] :] if starts else text
    return f"${', '.join(boxes(text[starts[-1] :]))}$"


def _last_run(text: str) -> str:
    """The last number of a plain text, with the formula that it may be a part of."""
    runs = [found[0] for found in RUN.finditer(text) if re.search(r"\d|\u03c0|pi", found[0])]
    return runs[-1].strip(" =") if runs else ""


def _scaled(found: re.Match[str]) -> str:
    """5 million as 5000000; what is between them stays."""
    number = Decimal(found[1].replace(",", "")) * MAGNITUDES[found[3].lower()]
    return f"{number.normalize():f}{found[2]}"


def _readable(text: str) -> str:
    """The text in notations that math-verify can read."""
    text = VULGAR.sub(r"\1 \2", text).replace("。", ". ").replace("：", ": ")
    text = "".join(map(in_ascii, text))
    text = POWERS.sub(lambda found: f"^{{{found[0].translate(SUPERSCRIPTS)}}}", text)
    text = SPACED.sub(lambda found: found[0].replace(" ", ""), text)
    text = text.translate(SYMBOLS) if _is_marked(text) else text
    for mark, replacement in MARKS:
        text = mark.sub(replacement, text)
    text = MAGNITUDE.sub(_scaled, text)
    if len(re.findall(r"(?<!\\)\$", text)) % 2:
        text = re.sub(r"\$(?=\s?[-.\d])", "", text, count=1)  # a currency, as nothing closes it
    text = MIXED.sub(lambda m: rf"\frac{{{int(m[1]) * int(m[3]) + int(m[2])}}}{{{m[3]}}}", text)
    return REPEATING.sub(_fraction, text)


def _fraction(repeating: re.Match[str]) -> str:
    """0.1\\overline{6} as a fraction: (16 - 1) / 90."""
    whole, start, period = repeating.groups()
    top = int(whole + start + period) - int((whole + start) or 0)
    return rf"\frac{{{top}}}{{{'9' * len(period)}{'0' * len(start)}}}"


def _bare(formula: str) -> str:
    """A formula without spacing and delimiters: if these are equal, so are the formulas, computable or not."""
    return re.sub(r"\\[dt]frac", r"\\frac", SPACING.sub("", APART.sub("~", WORDS.sub(r"\1", formula)))).rstrip(".")


def _bases(formula: str) -> list[str]:
    """The bases of numbers such as 101_2."""
    return BASE.findall(formula) if len(formula) <= FORMULA else []


def _as_formula(text: str) -> str:
    return text if _is_marked(text) else f"${PI.sub(PI_SIGN, text.strip().translate(SYMBOLS))}$"


def _is_marked(text: str) -> bool:
    return bool(DELIMITERS.search(text))


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            found = same(*json.loads(line))
        except Exception:  # sympy raises anything on odd input; expressions that cannot be compared are not equal
            found = False
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    _serve()
