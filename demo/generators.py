"""The four demo tasks: how their rows are drawn, keyed and turned into model text.

Both `make_data.py` (test rows) and `train.py` (training stream) import this module, so the
training text has exactly the format of the evaluation prompts. Standard library only.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

Row = dict[str, object]

ANSWER_CUE = "\nA:"
ANSWER_END = "\n"
THOUGHTS = ("<think>", "</think>")
"What marks the thoughts of the thinker."


@dataclass(frozen=True)
class Task:
    """One task: `kinds` sub-tasks, and the functions that draw a row, key it and render it."""

    name: str
    id_prefix: str
    kinds: tuple[str, ...]
    draw: Callable[[random.Random, str, int], Row]
    """Draw a row of a given kind; the integer is the label that a balanced test set asks for."""
    key: Callable[[Row], Hashable]
    """What makes two rows the same item: train and test must share no key."""
    text: Callable[[Row], tuple[str, str]]
    """The correct text as (context, continuation); the loss covers the continuation only."""
    labels: int
    """Number of label values to balance; 1 for generation tasks, which have no label."""


def question_prompt(question: str) -> str:
    """The context that precedes an answer; the answer then starts with a single space."""
    return f"Q: {question}{ANSWER_CUE}"


def continuation(answer: str) -> str:
    """An answer as it follows its context in training."""
    return f" {answer}{ANSWER_END}"


# ---------------------------------------------------------------- arithmetic

LARGEST_OPERAND = 50


def draw_arithmetic(rng: random.Random, kind: str, label: int) -> Row:
    """Sum or non-negative difference of two numbers from 1 to LARGEST_OPERAND."""
    a, b = rng.randint(1, LARGEST_OPERAND), rng.randint(1, LARGEST_OPERAND)
    if kind == "add":
        return {"question": f"{a}+{b}=", "answer": str(a + b)}
    a, b = max(a, b), min(a, b)
    return {"question": f"{a}-{b}=", "answer": str(a - b)}


def key_arithmetic(row: Row) -> Hashable:
    """Operator and operands; a sum keeps no order, so 3+5 in the test also bars 5+3 from training."""
    question = str(row["question"]).rstrip("=")
    if "+" in question:
        return ("+", *sorted(question.split("+"), key=int))
    return ("-", *question.split("-"))


def text_question_answer(row: Row) -> tuple[str, str]:
    """Context and continuation of a row that has `question` and `answer`."""
    return question_prompt(str(row["question"])), continuation(str(row["answer"]))


# ------------------------------------------------------------------- strings

COMMON_WORDS_TEXT = """
    air ant apple arm army bag ball band bank barn bean bear bell bird blue boat body bone book box boy
    bread bus cake calm cap car card cat chair city clay cloud coat cold cook cow crab cup dark deer desk
    dish dog door drum duck dust eagle ear earth egg farm fire fish flag floor fog food fork fox frog fruit
    game gate glass goat gold grass green hair hand hat head heart hill home honey horse house ice ink iron
    jam juice key king kite knee knife lake lamp leaf lemon light lion lip lock log map milk moon mouse
    music nail name neck nest net night nose nut ocean oil owl paint paper park path pen piano pig pin
    plant plate pond queen rain ring river road rock roof room root rope rose sail salt sand sea seed sheep
    ship shoe shop silk silver sky snow soap sock soup spoon star stone storm sugar sun table tail tea tent
    tiger tooth tower town train tree truck water whale wheel wind wing wolf wood wool yarn zebra
"""
COMMON_WORDS = tuple(COMMON_WORDS_TEXT.split())
WORD_LENGTHS = (3, 4, 5)
CONSONANTS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"
COMMON_WORD_SHARE = 0.3


def draw_word(rng: random.Random) -> str:
    """A common English word or a pronounceable pseudo-word of 3 to 5 letters."""
    if rng.random() < COMMON_WORD_SHARE:
        return rng.choice([word for word in COMMON_WORDS if len(word) in WORD_LENGTHS])
    length = rng.choice(WORD_LENGTHS)
    vowel_first = rng.random() < 0.3
    return "".join(rng.choice(VOWELS if (i % 2 == 0) == vowel_first else CONSONANTS) for i in range(length))


STRING_TASKS: dict[str, Callable[[str], str]] = {
    "copy": lambda word: word,
    "reverse": lambda word: word[::-1],
    "first letter": lambda word: word[0],
    "last letter": lambda word: word[-1],
    "uppercase": str.upper,
}


def draw_string(rng: random.Random, kind: str, label: int) -> Row:
    """One string task applied to one word."""
    word = draw_word(rng)
    return {"task": kind, "input": word, "answer": STRING_TASKS[kind](word)}


def key_string(row: Row) -> Hashable:
    """The word alone: a test word appears in no training example of any string task."""
    return row["input"]


def text_string(row: Row) -> tuple[str, str]:
    """Context and continuation of a string row: the question is `task: input`."""
    return question_prompt(f"{row['task']}: {row['input']}"), continuation(str(row["answer"]))


# ---------------------------------------------------------------- comparison

NUMBER_RANGE = (10, 99)
WINDOW = 40


def draw_comparison(rng: random.Random, kind: str, label: int) -> Row:
    """The largest or smallest of four two-digit numbers; the answer stands at position `label`.

    All choices have two digits, so that their log-likelihoods compare without length
    normalisation. They come from a random window of the number range, so that "large numbers
    are answers to largest" is of little help without reading the choices.
    """
    start = rng.randint(NUMBER_RANGE[0], NUMBER_RANGE[1] - WINDOW + 1)
    numbers = rng.sample(range(start, start + WINDOW), 4)
    answer = max(numbers) if kind == "largest" else min(numbers)
    numbers.remove(answer)
    numbers.insert(label, answer)
    choices = [str(number) for number in numbers]
    question = f"Which is {kind}: {', '.join(choices[:3])} or {choices[3]}?"
    return {"question": question, "choices": choices, "label": label}


def key_comparison(row: Row) -> Hashable:
    """Superlative and the set of numbers, whatever their order."""
    return (str(row["question"]).split(":")[0], frozenset(row["choices"]))  # type: ignore[arg-type]


def text_comparison(row: Row) -> tuple[str, str]:
    """Context and the correct choice as continuation."""
    return question_prompt(str(row["question"])), continuation(row["choices"][row["label"]])  # type: ignore[index]


# ------------------------------------------------------------------- grammar

PEOPLE = {
    "actor": "actors", "aunt": "aunts", "baker": "bakers", "boy": "boys", "child": "children",
    "cook": "cooks", "doctor": "doctors", "driver": "drivers", "farmer": "farmers", "friend": "friends",
    "girl": "girls", "guard": "guards", "king": "kings", "man": "men", "nurse": "nurses",
    "painter": "painters", "pilot": "pilots", "poet": "poets", "queen": "queens",
    "sailor": "sailors", "singer": "singers", "student": "students", "teacher": "teachers", "uncle": "uncles",
    "woman": "women", "writer": "writers",
}  # fmt: skip
THINGS = {
    "apple": "apples", "basket": "baskets", "boat": "boats", "book": "books", "bottle": "bottles",
    "box": "boxes", "bridge": "bridges", "cake": "cakes", "chair": "chairs", "clock": "clocks", "cup": "cups",
    "garden": "gardens", "hat": "hats", "house": "houses", "key": "keys", "knife": "knives", "lamp": "lamps",
    "letter": "letters", "map": "maps", "picture": "pictures", "ring": "rings", "road": "roads",
    "shirt": "shirts", "table": "tables", "tree": "trees", "window": "windows",
}  # fmt: skip
INTRANSITIVE = ("dance", "laugh", "listen", "rest", "run", "sing", "sleep", "smile", "swim", "talk", "wait",
                "walk", "work", "write")  # fmt: skip
TRANSITIVE = ("carry", "clean", "draw", "find", "like", "need", "paint", "see", "sell", "want")
PAST_OBJECT = ("bought", "broke", "carried", "cleaned", "drew", "found", "liked", "lost", "painted", "saw",
               "sold", "wanted")  # fmt: skip
PAST_REFLEXIVE = ("blamed", "drew", "helped", "hurt", "painted", "praised", "saw", "taught", "trusted",
                  "washed")  # fmt: skip
ADVERBS = ("again", "alone", "every day", "here", "in the morning", "loudly", "often", "outside", "quietly",
           "slowly", "today", "very well")  # fmt: skip
TIMES = ("after lunch", "again", "at school", "in May", "last week", "on Monday", "this morning", "today",
         "yesterday")  # fmt: skip
ADJECTIVES_PERSON = ("clever", "happy", "kind", "old", "quiet", "rich", "sad", "small", "tall", "tired",
                     "young")  # fmt: skip
ADJECTIVES_THING = ("beautiful", "black", "broken", "clean", "green", "heavy", "large", "new", "old", "red",
                    "small", "white")  # fmt: skip
PREPOSITIONS = ("behind", "beside", "near", "next to")
NAMES_HE = ("Adam", "Ben", "Carl", "David", "Eric", "Frank", "Henry", "Ivan", "John", "Kevin", "Mark", "Paul",
            "Peter", "Tom")  # fmt: skip
NAMES_SHE = ("Alice", "Anna", "Betty", "Clara", "Diana", "Emma", "Grace", "Helen", "Jane", "Kate", "Laura",
             "Maria", "Nora", "Sarah")  # fmt: skip
BE_FORMS = (("is", "are"), ("was", "were"))
DETERMINERS = (("this", "these"), ("that", "those"))


def third_person(verb: str) -> str:
    """Third person singular present of a verb in the lexicon."""
    return verb[:-1] + "ies" if verb.endswith("ry") else verb + "s"


def pick_noun(rng: random.Random, lexicon: dict[str, str], plural: bool) -> str:
    """A noun of the lexicon in the asked number."""
    singular = rng.choice(sorted(lexicon))
    return lexicon[singular] if plural else singular


def maybe_adjective(rng: random.Random, adjectives: tuple[str, ...]) -> str:
    """An adjective with its following space, or nothing, with equal chance."""
    return rng.choice(adjectives) + " " if rng.random() < 0.5 else ""


def agreement_simple(rng: random.Random) -> tuple[str, str]:
    """Subject and verb side by side: The old baker smiles/*smile today."""
    plural = rng.random() < 0.5
    subject = maybe_adjective(rng, ADJECTIVES_PERSON) + pick_noun(rng, PEOPLE, plural)
    if rng.random() < 0.5:
        verb, rest = rng.choice(INTRANSITIVE), rng.choice(ADVERBS)
    else:
        thing = maybe_adjective(rng, ADJECTIVES_THING) + pick_noun(rng, THINGS, rng.random() < 0.5)
        verb, rest = rng.choice(TRANSITIVE), f"the {thing}"
    right, wrong = (verb, third_person(verb)) if plural else (third_person(verb), verb)
    return f"The {subject} {right} {rest}.", f"The {subject} {wrong} {rest}."


def agreement_distant(rng: random.Random) -> tuple[str, str]:
    """A second noun between subject and verb: The boys near the guard sing/*sings often."""
    plural = rng.random() < 0.5
    subject, other = pick_noun(rng, PEOPLE, plural), pick_noun(rng, PEOPLE, rng.random() < 0.5)
    verb = rng.choice(INTRANSITIVE)
    right, wrong = (verb, third_person(verb)) if plural else (third_person(verb), verb)
    start, rest = f"The {subject} {rng.choice(PREPOSITIONS)} the {other}", rng.choice(ADVERBS)
    return f"{start} {right} {rest}.", f"{start} {wrong} {rest}."


def agreement_be(rng: random.Random) -> tuple[str, str]:
    """A form of be after a second noun: The keys beside the lamp are/*is old."""
    plural = rng.random() < 0.5
    subject, other = pick_noun(rng, THINGS, plural), pick_noun(rng, THINGS, rng.random() < 0.5)
    forms = rng.choice(BE_FORMS)
    start, rest = f"The {subject} {rng.choice(PREPOSITIONS)} the {other}", rng.choice(ADJECTIVES_THING)
    return f"{start} {forms[plural]} {rest}.", f"{start} {forms[not plural]} {rest}."


def determiner_noun(rng: random.Random) -> tuple[str, str]:
    """Determiner and noun: Anna bought these/*this green hats yesterday."""
    plural = rng.random() < 0.5
    forms = rng.choice(DETERMINERS)
    start = f"{rng.choice(NAMES_HE + NAMES_SHE)} {rng.choice(PAST_OBJECT)}"
    noun = maybe_adjective(rng, ADJECTIVES_THING) + pick_noun(rng, THINGS, plural)
    rest = rng.choice(TIMES)
    return f"{start} {forms[plural]} {noun} {rest}.", f"{start} {forms[not plural]} {noun} {rest}."


def reflexive(rng: random.Random) -> tuple[str, str]:
    """Reflexive pronoun and subject: Nora saw herself/*himself today."""
    he = rng.choice(NAMES_HE)
    she = rng.choice(NAMES_SHE)
    pronouns = {"himself": he, "herself": she, "themselves": f"The {pick_noun(rng, PEOPLE, True)}"}
    right, wrong = rng.sample(sorted(pronouns), 2)
    start, rest = f"{pronouns[right]} {rng.choice(PAST_REFLEXIVE)}", rng.choice(TIMES)
    return f"{start} {right} {rest}.", f"{start} {wrong} {rest}."


PHENOMENA: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "agreement_simple": agreement_simple,
    "agreement_distant": agreement_distant,
    "agreement_be": agreement_be,
    "determiner_noun": determiner_noun,
    "reflexive": reflexive,
}


def draw_grammar(rng: random.Random, kind: str, label: int) -> Row:
    """A minimal pair of one phenomenon; `label` says which of the two is grammatical."""
    good, bad = PHENOMENA[kind](rng)
    first, second = (good, bad) if label == 0 else (bad, good)
    return {"sentence_a": first, "sentence_b": second, "label": label}


def grammatical(row: Row) -> str:
    """The grammatical sentence of a pair."""
    return str(row["sentence_a"] if row["label"] == 0 else row["sentence_b"])


def text_grammar(row: Row) -> tuple[str, str]:
    """No context: the whole grammatical sentence is what the model learns."""
    return "", grammatical(row) + ANSWER_END


# --------------------------------------------------------------------- tasks

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "arithmetic",
            "arith",
            ("add", "subtract"),
            draw_arithmetic,
            key_arithmetic,
            text_question_answer,
            1,
        ),
        Task("strings", "str", tuple(STRING_TASKS), draw_string, key_string, text_string, 1),
        Task("comparison", "comp", ("largest", "smallest"), draw_comparison, key_comparison, text_comparison, 4),
        Task("grammar", "gram", tuple(PHENOMENA), draw_grammar, grammatical, text_grammar, 2),
    )
}


def draw_set(task: Task, count: int, rng: random.Random, exclude: frozenset[Hashable] = frozenset()) -> list[Row]:
    """`count` rows without a repeated or excluded key, with kinds and labels balanced."""
    labels = [i % task.labels for i in range(count)]
    kinds = [task.kinds[i % len(task.kinds)] for i in range(count)]
    rng.shuffle(labels)
    rng.shuffle(kinds)
    seen: set[Hashable] = set(exclude)
    rows: list[Row] = []
    for kind, label in zip(kinds, labels, strict=True):
        row = task.draw(rng, kind, label)
        while task.key(row) in seen:
            row = task.draw(rng, kind, label)
        seen.add(task.key(row))
        rows.append({"id": f"{task.id_prefix}-{len(rows) + 1:04d}", **row})
    return rows


def chat(task: Task, row: Row) -> tuple[str, str]:
    """What a user asks about a row, and what the assistant answers."""
    asked, answer = task.text(row)
    return asked or "Write a sentence.", answer.strip()


def thought(task: Task, row: Row) -> str:
    """The steps to the answer of a row, as a model may think them; nothing for tasks whose answers are scored."""
    if task.name == "arithmetic":
        question = str(row["question"]).rstrip("=")
        sign = "+" if "+" in question else "-"
        return columns(sign, *map(int, question.split(sign)))
    if task.name == "strings":
        return " ".join(str(row["input"]))
    return ""


def columns(sign: str, left: int, right: int) -> str:
    """A sum or difference of two numbers below 100 as on paper: ones, then tens with what is carried or borrowed."""
    (tens, ones), (more_tens, more_ones) = divmod(left, 10), divmod(right, 10)
    if sign == "+":
        carried = (ones + more_ones) // 10
        tens_sum = f"{tens}+{more_tens}{'+1' * carried}={tens + more_tens + carried}"
        return f"{ones}+{more_ones}={ones + more_ones},{tens_sum}"
    if ones < more_ones:
        tens, ones = tens - 1, ones + 10
    return f"{ones}-{more_ones}={ones - more_ones},{tens}-{more_tens}={tens - more_tens}"


def training_stream(task: Task, rng: random.Random, exclude: frozenset[Hashable]) -> Iterator[tuple[str, str]]:
    """Endless (context, continuation) pairs, none with an excluded key (train and test are disjoint)."""
    while True:
        row = task.draw(rng, rng.choice(task.kinds), rng.randrange(task.labels))
        if task.key(row) not in exclude:
            yield task.text(row)


def keys_of(task: Task, rows: list[Row]) -> frozenset[Hashable]:
    """The keys of some rows, to exclude them from training."""
    return frozenset(task.key(row) for row in rows)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """Read rows from JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
