"""The option that an answer states: `B`, `(B)`, `the answer is $\\boxed{B}$`, `not A but B`, `答案是B`.

Of the letters that stand alone, those that head a list of options are left out, as are those that are denied ("not A",
"A is wrong") or only considered ("although A", "A or B"). The others are ranked by how they are stated; among equals,
the last one counts.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from shardmark.texts import wording
from shardmark.texts.letters import (
    DIRECTLY_NOT,
    ENDS_CLAUSE,
    LABEL,
    SUBJECT,
    Letter,
    cleaned,
    compiled,
    enumerations,
    letters,
    list_labels,
)

FAR = 120
"How many characters around a letter are searched for a statement about it."

SEVERAL = "several"
"What a list of options states. It takes back what is said of one, but not an earlier statement."

SHORT = 300
"The most characters of a text in which a letter without a statement is an answer; a tenth if its case is another."

BETWEEN = rf"(?:\W{{0,3}}(?:\b(?:{wording.NAME})\b|选项|選項|選択肢|项)){{0,2}}[\s:(]{{0,4}}$"
"The text that may stand between a word that states an answer and the letter."
ANSWER = compiled("(?P<linked>", wording.ANSWER, ")|", wording.FOREIGN_ANSWER)
NO_STATEMENT = compiled(wording.NO_STATEMENT)
LINK = compiled(wording.LINK)
CHOOSE = compiled("(?:", wording.CHOOSE, ")", BETWEEN)
CONCLUDE = compiled("(?:", wording.CONCLUDE, r"),?(?:\s(?:it is|it's|it must be|is))?", BETWEEN)
THEN = compiled(r"then\b")
COPULA = compiled("(?:", wording.COPULA, ")", BETWEEN)
OPENING = compiled(r"\W{0,40}(?:1[.)]\s)?(?:(?:", wording.BEFORE_OPENING, r")\W{1,5}){0,2}\W{0,5}")
AFTER_OPENING = re.compile(r"\)?\s?[/、|–—-]|[ \t]{0,5}\(|[\u2e80-\u9fff\uac00-\ud7af]")
OTHERS = compiled(wording.OTHERS)
NOT = compiled(wording.NOT)
OTHERWISE = compiled(
    r"\)?(?:\s(?:if|when)\s[^.;!?\n]{1,60})?[.,;]?\s(?:and\s|or\s)?(?:otherwise|else|if not)\b,?\s(?:then\s)?",
    r"(?:(?:it is|it's|choose|pick|select|answer|the answer is)\s)?\(?[a-z]\)?\s{0,5}(?:[.,;!\n]|\Z)",
)
"After a letter: another one in the opposite case."
NO_NEGATION = compiled(wording.NO_NEGATION)
CONSIDERED = compiled(r"\b(?:", wording.CONSIDERED, ")")
NOT_AFTER = compiled(wording.NOT_AFTER)
RIGHT = compiled(wording.RIGHT)
ELLIPSIS = compiled(r"\)?\s(?:is|does)[.!\n]")
VERDICT = compiled(
    r"(?P<sure>[✅✓✔]|[(-]\s?correct(?:\sanswer)?\)?$)|(?:^[\s.:)|-]{0,6}|[-–—:(|→>]\s{0,3}|\bis\s)",
    r"(?:(?P<right>correct|right|richtig|correcto|正确)|in\s?correct|not correct|wrong|falsch|错误|不正确)(?!\w)",
    r"|(?:^[\s.:)|-]{0,6}|[-–—:(|→>]\s{0,3})(?:(?P<yes>yes|true)|no|false)(?!\w)|[❌✗✘]",
)
"In a line of a list of options: whether the option is right. Yes and true may be its text."
CLAUSE_END = compiled(wording.CLAUSE_END)
SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？\n]")
CORRECTION = compiled(wording.CORRECTION)
CORRECTED = compiled("(?!mistake)(?:", wording.CORRECTION, r")(?:[\s,.:]{1,3}no)?[,.:]?", BETWEEN)
TENTATIVE = compiled(wording.TENTATIVE)
BUT = compiled(r"\b(?:but|however|yet)\b")
ANSWER_LINE = compiled(r"\s{0,20}answer\s?:")
NEXT_QUESTION = compiled(r"[ \t]{0,20}(?:", wording.NEXT_QUESTION, ")")
BARE_LABEL = compiled(r"[ \t]{0,20}[(|]?a[.):][ \t]{0,20}")


class Statement(NamedTuple):
    """A statement that a letter is the answer."""

    place: int
    option: str
    "Empty if there is no such option; SEVERAL for a list."


def first_option(text: str, options: str) -> str | None:
    """The option that an answer states; None if it states none, or several.

    If the text goes on with another question, the answer is what comes before that. Lower and upper case are equal,
    unless both are options.
    """
    names = {option: option for option in options}
    if len({option.upper() for option in options}) == len(options):
        names |= {option.swapcase(): option for option in options}
    for part in _questions(cleaned(text)):
        found = _Reading(part, names).answer()
        if found is not None:
            return found or None
    return None


def _questions(text: str) -> Iterator[str]:
    """The text up to the next question, then from there to the one after it, and so on.

    Where the limit has cut off a next question after the label of its first option, that is no answer.
    """
    part: list[str] = []
    lines = text.rstrip().split("\n")
    if BARE_LABEL.fullmatch(lines[-1]) and any(map(NEXT_QUESTION.match, lines[-2:-1])) and any(lines[:-2]):
        lines.pop()
    for line in lines:
        if NEXT_QUESTION.match(line) and any(map(str.strip, part)):
            yield "\n".join(part)
            part = []
        part.append(line)
    yield "\n".join(part)


class _Reading:
    """A text, its letters, and its statements about them."""

    def __init__(self, text: str, names: dict[str, str]) -> None:
        self.text = text
        self.letters = letters(text, names)
        self.starts = [letter.start for letter in self.letters]
        self.clauses = [0, *(found.end() for found in CLAUSE_END.finditer(text))]
        self.options = list(dict.fromkeys(names.values()))
        self.labels = list_labels(text, self.letters, self.options)
        self.lists = {letter: each for each in enumerations(text, self.letters) for letter in each}

    def answer(self) -> str | None:
        """The stated option; an empty text if it states one that does not exist; None if it states nothing."""
        opening = self._opening()
        stated = sorted(self._stated())
        if opening and self._is_final(opening, stated):
            return opening.option
        since = max((each.place for each in stated if each.option == SEVERAL), default=-1)
        stated = [each for each in stated if each.option != SEVERAL]
        said = [each for each in sorted(self._said()) if each.place > since]
        if stated:
            return (said[-1] if said and self._is_corrected(stated[-1], said[-1]) else stated[-1]).option
        if opening and since < 0:
            return opening.option
        if said:
            return said[-1].option
        lone = {letter.option for letter in self.letters if letter.start > since and self._is_lone(letter)}
        return lone.pop() if len(lone) == 1 else None

    def _is_candidate(self, letter: Letter) -> bool:
        return bool(letter.option) and letter not in self.labels and letter not in self.lists

    # The text before and after a letter

    def _before(self, letter: Letter, since: int = 0) -> str:
        """The clause before a letter, or before the list with it, from `since` on."""
        start = self.lists.get(letter, [letter])[0].start
        clause = self.clauses[bisect_right(self.clauses, start) - 1]
        return self.text[max(clause, since, start - FAR) : start]

    def _after(self, letter: Letter) -> str:
        """The rest of the clause after a letter, or after the list with it, up to the next letter."""
        end = self.lists.get(letter, [letter])[-1].end
        stop = CLAUSE_END.search(self.text, end + 1, end + FAR)
        following = bisect_left(self.starts, end)
        stops = [stop.start()] if stop else []
        stops += self.starts[following : following + 1]
        return self.text[end : min([end + FAR, *stops])]

    def _is_denied(self, letter: Letter, since: int = 0) -> bool:
        """Whether the letter's clause denies that it is the answer, or only considers it."""
        before = self._before(letter, since)
        if NOT.search(NO_NEGATION.sub(" ", before)) or CONSIDERED.search(before):
            return True
        end = self.lists.get(letter, [letter])[-1].end
        if DIRECTLY_NOT.match(self.text, end, end + 40) or OTHERWISE.match(self.text, end):
            return True
        return bool(SUBJECT.match(self.text, end) and NOT_AFTER.search(self._after(letter)))

    # Statements: "the answer is B", "I choose B", "so B"

    def _stated(self) -> Iterator[Statement]:
        for cue in ANSWER.finditer(self.text):
            if not NO_STATEMENT.search(self.text, max(0, cue.start() - 30), cue.start()):
                letter = self._linked(cue)
                if letter:
                    joined = self.lists.get(letter)
                    yield Statement(joined[-1].start, SEVERAL) if joined else Statement(letter.start, letter.option)
        for letter in filter(self._is_candidate, self.letters):
            begin = max(0, letter.start - 50)
            chosen = CHOOSE.search(self.text, begin, letter.start)
            if chosen and not self._is_denied(letter) and not OTHERS.search(self.text, begin, chosen.start()):
                yield Statement(letter.start, letter.option)
            elif ENDS_CLAUSE.match(self.text, letter.end):
                concluded = CONCLUDE.search(self.text, begin, letter.start)
                since = 0 if concluded and THEN.match(concluded[0]) else concluded.start() if concluded else 0
                if concluded and not self._is_denied(letter, since):
                    yield Statement(letter.start, letter.option)

    def _linked(self, cue: re.Match[str]) -> Letter | None:
        """The letter that a word for answer is linked to, in its sentence or at the beginning of the next line."""
        end = SENTENCE_END.search(self.text, cue.end(), cue.end() + FAR)
        limit = end.start() if end else min(cue.end() + FAR, len(self.text))
        if limit - cue.end() < 20 and not re.search(r"[^\W_]", LINK.sub("", self.text[cue.end() : limit])):
            line = re.compile(r"[\s.]{0,20}[^\n]{0,200}").match(self.text, limit)
            limit = line.end() if line else limit
        first, last = bisect_left(self.starts, cue.end()), bisect_left(self.starts, min(limit, cue.end() + FAR))
        for letter in self.letters[first:last]:
            all_listed = {other.option for other in self.lists.get(letter, [])} >= set(self.options)
            if all_listed or letter in self.labels or self._is_denied(letter, cue.end()):
                continue
            linked = not cue["linked"] or LINK.search(self.text[cue.end() : letter.start].rstrip("("))
            return letter if linked else None
        return None

    def _is_corrected(self, stated: Statement, said: Statement) -> bool:
        """Whether a later statement corrects an earlier one: "The answer is A. No, wait, it's C."."""
        if said.place <= stated.place:
            return False
        tentative = TENTATIVE.search(self.text, max(0, stated.place - 60), stated.place)
        taken_back = BUT if tentative else CORRECTION
        return any(pattern.search(self.text, stated.place, said.place) for pattern in (CORRECTION, taken_back))

    # The letter that a text begins with

    def _opening(self) -> Letter | None:
        for letter in self.letters[:1]:
            if not self._is_candidate(letter) or letter.start > 60:
                return None
            if not OPENING.fullmatch(self.text, 0, letter.start) or self._lists_options() or self._has_parts(letter):
                return None
            again = re.match(rf"\s{{1,5}}{letter.option}\b", self.text[letter.end : letter.end + 10])
            ends = ENDS_CLAUSE.match(self.text, letter.end) or AFTER_OPENING.match(self.text, letter.end)
            asks = ends and "?" in ends[0]  # "C? No, B."
            if (letter.bracketed or again or ends) and not asks and not self._is_denied(letter):
                return letter
        return None

    def _lists_options(self) -> bool:
        """Whether the text begins by repeating all options in one line: "A) red B) blue"."""
        end = self.text.find("\n", self.starts[0])
        line = self.letters if end < 0 else self.letters[: bisect_left(self.starts, end)]
        labels = [letter.option for letter in line if letter.bracketed or LABEL.match(self.text, letter.end)]
        return len(self.options) > 1 and labels[: len(self.options)] == self.options

    def _has_parts(self, opening: Letter) -> bool:
        """Whether the letter begins the first part of a longer answer: "(a) It weighs 5 g. (b) It holds 2 l."."""
        if ")" not in self.text[opening.start : opening.end + 1]:
            return False
        first = self.text[opening.start : opening.end].strip("([<>])")
        second = "ii" if first == "i" else re.escape(chr(ord(first) + 1))
        label = rf"[.!?:;\n]\s{{0,3}}\(?{second}\)\s(?!(?i:{wording.VERB}))"
        return re.search(label, self.text[opening.end :]) is not None

    def _is_final(self, opening: Letter, stated: list[Statement]) -> bool:
        """Whether a text that begins with a letter goes on with other answers or questions, as base models do.

        That is so if the letter is a line of its own and nothing corrects it, or if the next line is an answer again.
        """
        line, _, rest = self.text[opening.end :].partition("\n")
        if re.search(r"\w", line):
            return bool(ANSWER_LINE.match(rest))
        return not stated or not CORRECTION.search(self.text, opening.end, stated[-1].place)

    # Other wordings: "B is right", "it is B"

    def _said(self) -> Iterator[Statement]:
        yield from self._marked()
        for letter in self.letters:
            if self._is_candidate(letter) and not self._is_denied(letter):
                is_right = ELLIPSIS.match(self.text, letter.end) or RIGHT.search(self._after(letter))
                begin = max(0, letter.start - 50)
                ends = ENDS_CLAUSE.match(self.text, letter.end)
                before = (COPULA,) if ends and "?" in ends[0] else (COPULA, CORRECTED)
                named = (ends or letter.bracketed) and any(
                    each.search(self.text, begin, letter.start) for each in before
                )
                if is_right or named:
                    yield Statement(letter.start, letter.option)

    def _marked(self) -> Iterator[Statement]:
        """The option that a list marks as right, if it marks all others as wrong, or marks no other beyond doubt."""
        verdicts: dict[str, str] = {}
        for letter in sorted(self.labels):
            found = VERDICT.search(self.text[letter.end :].partition("\n")[0])
            verdicts[letter.option] = (found.lastgroup or "wrong") if found else ""
        right = [(option, verdict) for option, verdict in verdicts.items() if verdict not in ("", "wrong")]
        if len(right) == 1 and (option := right[0][0]):
            alone = "" not in verdicts.values() and (right[0][1] != "yes" or len(verdicts) > 2)
            if alone or right[0][1] == "sure":
                yield Statement(max(each.start for each in self.labels if each.option == option), option)

    def _is_lone(self, letter: Letter) -> bool:
        """Whether nothing is said of the letter; in a long text, that is rather a variable."""
        is_capital = letter.option in self.text[letter.start : letter.end]
        if len(self.text) > (SHORT if is_capital else SHORT // 10):
            return False
        is_subject = SUBJECT.match(self.text, letter.end) or self.text[letter.end :].lstrip().startswith("=")
        return self._is_candidate(letter) and not is_subject and not self._is_denied(letter)
