"""The local `evaluate` modules give the right numbers, and need no network and no cache for it."""

import json
import math
import os
import re
import string
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects import property_test
from requirements_check import need
from shardmark import metrics
from shardmark.errors import UserError
from shardmark.metrics import METRICS, ifbench_checks, ifbench_instructions, instructions, math_process
from shardmark.metrics.instructions import INSTRUCTIONS
from shardmark.metrics.math_process import MathProcess
from shardmark.scoring.load_metric import load_metric
from shardmark.settings import meanings
from shardmark.untrusted.templates import RenderError

SCRIPTS = Path(metrics.__file__).parents[2]


def exact_match(predictions: list[str], references: list[list[str]], **options: Any) -> list[float]:
    result = load_metric("exact_match").compute(predictions=predictions, references=references, **options)
    assert result["exact_match"] == pytest.approx(sum(result["samples"]) / len(predictions))
    return list(result["samples"])


def samples(name: str, predictions: list[Any], references: list[Any], **options: Any) -> list[float]:
    return list(load_metric(name).compute(predictions=predictions, references=references, **options)["samples"])


def value(name: str, predictions: list[Any], references: list[Any], **options: Any) -> float:
    return float(load_metric(name).compute(predictions=predictions, references=references, **options)[name])


def test_accuracy_is_the_share_of_right_labels() -> None:
    result = load_metric("accuracy").compute(predictions=[0, 1, 2, 2], references=[[0], [1], [2, 3], [3]])
    assert result["accuracy"] == 0.75
    assert result["samples"] == [1.0, 1.0, 1.0, 0.0]


def test_no_label_is_wrong() -> None:
    assert samples("accuracy", [-1], [[0]]) == [0.0]


def test_exact_match_wants_the_same_text() -> None:
    assert exact_match(["yes", "Yes", "yes ", ""], [["yes"]] * 4) == [1.0, 0.0, 0.0, 0.0]


def test_any_of_several_references_counts() -> None:
    assert exact_match(["b", "c", "d"], [["a", "b"], ["c"], []]) == [1.0, 1.0, 0.0]


def test_case_can_be_ignored() -> None:
    assert exact_match(["YES", "STRASSE", "no"], [["yes"], ["Straße"], ["yes"]], ignore_case=True) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("3.0", "3", True),
        ("1,234.50", "1234.5", True),
        ("$18", "18", True),
        ("-$5", "-5", True),
        (" 18\n", "18", True),
        ("3.001", "3", True),
        ("3.1", "3", False),
        ("-3", "3", False),
        ("three", "3", False),
        ("three", "three", True),
        ("nan", "nan", True),
        ("", "0", False),
    ],
)
def test_with_a_tolerance_answers_are_numbers(answer: str, reference: str, equal: bool) -> None:
    assert exact_match([answer], [[reference]], tolerance=0.01) == [float(equal)]


def test_a_tolerance_of_0_is_one() -> None:
    assert exact_match(["3.0", "3.01"], [["3"], ["3"]], tolerance=0.0) == [1.0, 0.0]


def test_punctuation_that_is_ignored_is_not_that_of_a_number() -> None:
    ignored = {"ignore_punctuation": True, "ignore_numbers": True, "ignore_case": True, "tolerance": 0.01}
    found = exact_match(
        ["-3", "3.5", "12", "USD 5", "Route 66!"], [["3"], ["35"], ["34"], ["5"], ["route 67"]], **ignored
    )
    assert found == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_what_looks_the_same_is_the_same() -> None:
    pairs = [
        *(("Que\u0301bec", "Qu\u00e9bec"), ("\u200fdo\u00ador\ufeff", "door"), ("5\u00a0km", "5 km")),
        *(("“co\u2011op”", '"co-op"'), ("O’Neill", "O'Neill")),
    ]
    for name in ("exact_match", "squad", "string_match"):
        assert samples(name, [one for one, _ in pairs], [[other] for _, other in pairs]) == [1.0] * len(pairs)
    assert samples("squad", ["“Paris” – 1914—18…"], [["Paris 1914-18"]]) == [1.0]
    joined = ["\u0646\u0645\u06cc\u200c\u0631\u0648\u0645", "\u1ebf"]  # with a joiner that shapes letters
    assert exact_match(joined, [[joined[0].replace("\u200c", "")], ["e"]]) == [0.0, 0.0]


def test_texts_of_any_alphabet_pass_through() -> None:
    assert exact_match(["東京", "a\u2028b", "\x00", "😀"], [["東京"], ["a\u2028b"], ["\x00"], ["😀"]]) == [1.0] * 4


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({}, [1.0, 0.0, 0.0, 0.0]),
        ({"ignore_punctuation": True}, [1.0, 1.0, 0.0, 0.0]),
        ({"ignore_numbers": True}, [1.0, 0.0, 1.0, 0.0]),
        ({"ignore_patterns": ["[a-z]+$"], "ignore_case": True}, [1.0, 0.0, 0.0, 1.0]),
    ],
)
def test_what_is_ignored_is_ignored_on_both_sides(options: dict[str, Any], answers: list[float]) -> None:
    assert exact_match(["a b", "a, b.", "a b2", "A c"], [["a b"]] * 4, **options) == answers


# Words


@pytest.mark.parametrize(
    ("answer", "right", "f1", "exact"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1.0, 1.0),
        ("in Paris", ["Paris"], 2 / 3, 0.0),
        ("Rome", ["Paris", "rome"], 1.0, 1.0),
        ("Rome", ["Paris"], 0.0, 0.0),
        ("c c b", ["c b b"], 2 / 3, 0.0),
        ("the", ["a"], 1.0, 1.0),
        ("", ["x"], 0.0, 0.0),
        ("", ["A"], 0.0, 0.0),
        (" ", ["", "A"], 1.0, 1.0),
        ("cafe\u0301", ["caf\u00e9"], 1.0, 1.0),
        ("x", [], 0.0, 0.0),
    ],
)
def test_squad_compares_words(answer: str, right: list[str], f1: float, exact: float) -> None:
    assert samples("squad", [answer], [right]) == pytest.approx([f1])
    assert samples("squad", [answer], [right], part="exact_match") == [exact]
    assert samples("f1", [answer], [right], average="token") == pytest.approx([f1])


def test_an_answer_contains_a_target_if_it_has_its_words_in_a_row() -> None:
    answers = ["Barack Obama (born 1961)", "It was the Beatles.", "Bart", "Obama Barack", "", "a cat", "the"]
    targets = [["Obama", "x"], ["The Beatles"], ["art"], ["Barack Obama"], ["x"], ["the"], ["a"]]
    assert samples("squad", answers, targets, part="contains") == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_string_match_looks_for_each_target_anywhere() -> None:
    answers = ["they are ABC, Def", "abcdef", "", "x"]
    right = [["abc", "DEF", "ghi"], ["b", "b"], ["a"], []]
    assert samples("string_match", answers, right) == pytest.approx([2 / 3, 1.0, 0.0, 0.0])
    assert samples("string_match", answers, right, part="any") == [1.0, 1.0, 0.0, 0.0]


def test_rouge_is_that_of_rouge_score_for_the_nearest_reference() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    answer, right = "The cat sat on the mat.\nIt purred", ["A dog", "the cats sat on mats\nit purrs"]
    for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        nearest = max(RougeScorer([kind], use_stemmer=True).score(r, answer)[kind].fmeasure for r in right)
        assert samples("rouge", [answer], [right], type=kind, stem=True) == [pytest.approx(nearest)]
    assert samples("rouge", [""], [["x"]]) == [0.0]


TRANSLATED = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him.", ""]
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
    ["Yes.", "So."],
]


def test_bleu_and_chrf_are_those_of_sacrebleu() -> None:
    import sacrebleu

    streams = [list(stream) for stream in zip(*REFERENCES, strict=True)]
    assert value("bleu", TRANSLATED, REFERENCES) == pytest.approx(
        sacrebleu.corpus_bleu(TRANSLATED, streams).score / 100
    )
    lower = sacrebleu.corpus_bleu(TRANSLATED, streams, lowercase=True, tokenize="intl").score / 100
    assert value("bleu", TRANSLATED, REFERENCES, ignore_case=True, tokenize="intl") == pytest.approx(lower)
    for order in (0, 2):
        score = sacrebleu.corpus_chrf(TRANSLATED, streams, word_order=order).score / 100
        assert value("chrf", TRANSLATED, REFERENCES, word_order=order) == pytest.approx(score)
    assert value("bleu", ["", ""], [["a"], ["b"]]) == 0.0


def test_rows_may_have_different_numbers_of_references() -> None:
    assert value("bleu", ["a b c d", "e f g h"], [["a b c d"], ["x", "e f g h"]]) == pytest.approx(1.0)
    assert value("chrf", ["abcdef", "ghijkl"], [["abcdef"], ["x", "ghijkl"]]) == pytest.approx(1.0)


# Labels, against scikit-learn

labels = st.lists(st.tuples(st.sampled_from("012"), st.sampled_from("012")), min_size=1, max_size=40)


@property_test
@given(labels)
def test_f1_and_mcc_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import f1_score, matthews_corrcoef

    right, found = map(list, zip(*pairs, strict=True))
    several = [[r] for r in right]
    assert value("mcc", found, right) == pytest.approx(matthews_corrcoef(right, found))
    ones = [[label == "1" for label in column] for column in (right, found)]
    binary = f1_score(*ones, zero_division=0.0)
    assert value("f1", found, several, average="binary", positive="1") == pytest.approx(binary)
    macro = f1_score(right, found, labels=sorted(set(right)), average="macro", zero_division=0.0)
    assert value("f1", found, several, average="macro") == pytest.approx(macro)


def test_an_answer_that_is_no_label_is_a_wrong_one() -> None:
    from sklearn.metrics import matthews_corrcoef

    found, right = ["0", "", "1", "never"], ["0", "1", "1", "0"]
    assert value("mcc", found, right) == pytest.approx(matthews_corrcoef(right, ["0", "x", "1", "x"]))
    assert value("f1", found, [[r] for r in right], average="macro") == pytest.approx(2 / 3)


def test_labels_have_no_score_for_a_single_sample() -> None:
    assert samples("mcc", ["0", "1"], ["0", "1"]) == [None, None]
    assert samples("f1", ["0", "1"], [["0"], ["1"]], average="macro") == [None, None]


# Log-likelihoods


def test_briers_score_is_the_distance_of_probabilities_to_the_truth() -> None:
    logprobs = [[math.log(0.7), math.log(0.2), math.log(0.1)]] * 2
    assert samples("brier", logprobs, [[0], [2]]) == pytest.approx([0.3**2 + 0.2**2 + 0.1**2, 0.7**2 + 0.2**2 + 0.9**2])
    assert samples("brier", [[-5000.0, -5001.0]], [[0]])[0] == pytest.approx(2 * (1 / (1 + math.e)) ** 2)
    assert samples("brier", [[0.0, 0.0]], [[0, 1]]) == pytest.approx([0.0])


def test_mc1_and_mc2_judge_the_right_choices_together() -> None:
    logprobs = [[math.log(p) - 900 for p in (0.2, 0.3, 0.1)]] * 2
    assert samples("mc1", logprobs, [[0], [0, 1]]) == [0.0, 1.0]
    assert samples("mc2", logprobs, [[0], [0, 1]]) == pytest.approx([1 / 3, 5 / 6])


def test_perplexities_are_of_all_texts_together() -> None:
    logprobs, texts = [-10.0, -2.0], [" the größe of", "a"]
    assert value("perplexity", logprobs, texts) == pytest.approx(math.exp(6))
    assert value("word_perplexity", logprobs, texts) == pytest.approx(math.exp(12 / 5))
    assert value("byte_perplexity", logprobs, texts) == pytest.approx(math.exp(12 / 16))
    assert value("bits_per_byte", logprobs, texts) == pytest.approx(12 / 16 / math.log(2))
    assert samples("bits_per_byte", logprobs, texts)[1] == pytest.approx(2 / math.log(2))
    assert METRICS["perplexity"].higher_is_better is False


# Instructions, programs and formulas


def test_ifeval_counts_prompts_or_instructions() -> None:
    ids = ["punctuation:no_comma", "keywords:existence"]
    asked = json.dumps({"ids": ids, "kwargs": [{}, {"keywords": ["sun"]}], "prompt": "p"})
    responses = ["The sun", "The sun, too", "*Rain*", ""]
    assert samples("ifeval", responses, [[asked]] * 4) == [1.0, 0.0, 0.0, 0.0]
    assert samples("ifeval", responses, [[asked]] * 4, level="instruction") == [1.0, 0.5, 0.5, 0.0]
    assert samples("ifeval", ["Hello, you\nThe sun"], [[asked]], loose=True) == [1.0]


IFBENCH_ANSWERS = [
    ("count:conjunctions", {"small_n": 2.0}, "salt and pepper or thyme", "salt and pepper"),
    (
        "count:keywords_multiple",
        {f"keyword{n}": word for n, word in enumerate(("ant", "bee", "cow", "dog", "elk"), 1)},
        "ant" + 2 * " bee" + 3 * " cow" + 5 * " dog" + 7 * " elk",
        "ant bee cow dog elk",
    ),
    ("count:numbers", {"N": 2.0}, "3.5 and 7", "3 and 5 and 7"),
    ("count:person_names", {"N": 2}, "Emma met Liam", "Emma met liam"),
    ("count:pronouns", {"N": 3}, "She gave it to him/her.", "Ann gave it."),
    ("count:punctuation", {}, "Oh; a: b, c. What?! Yes! No?", "Oh; a: b, c. What?!"),
    ("count:unique_word_count", {"N": 2}, "one two two", "one One, one."),
    ("count:word_count_range", {"min_words": 2, "max_words": 3}, "a b c", "a b c d"),
    ("count:words_japanese", {"N": 2}, "a 犬 b 猫", "a 犬 b cat"),
    ("custom:character_reverse", {}, "Elgae dlab", "bald eagle"),
    ("custom:csv_city", {}, "ID,Country,City,Year,Count\n" + 7 * "1,a,b,2,3\n", "ID,Country,City,Year,Count\n"),
    (
        "custom:csv_quotes",
        {},
        '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"' + 3 * '\n"1"\t"a"\t"b"\t"c"\t"2"',
        "StudentID\tSubject\tGrade\tSemester\tScore" + 3 * "\n1\ta\tb\tc\t2",
    ),
    (
        "custom:csv_special_character",
        {},
        "ProductID,Category,Brand,Price,Stock" + 14 * '\n1,a,"b&c",2,3',
        "ProductID,Category,Brand,Price,Stock" + 14 * "\n1,a,b,2,3",
    ),
    ("custom:date_format_list", {}, "1796-04-12, 1805-12-02", "1796-04-31"),
    ("custom:european_capitals_sort", {}, ", ".join(ifbench_checks.CAPITALS.split()), "Paris, Oslo"),
    (
        "custom:mcq_count_length",
        {},
        "\n".join(f"Question {n}: {n * 'w'}?" + "".join(f"\n{c}. x" for c in "ABCDE") for n in (1, 2, 3, 4)),
        "\n".join(f"Question {n}: w?" + "".join(f"\n{c}. x" for c in "ABCDE") for n in (1, 2, 3, 4)),
    ),
    ("custom:multiples", {}, "14,21,28,35,42,49", "7, 14, 21, 28, 35, 42, 49"),
    ("custom:reverse_newline", {}, "Zimbabwe\n" + "Togo\n" * 51, "Zimbabwe\nTogo"),
    ("custom:sentence_alphabet", {}, " ".join(f"{c}nd so." for c in string.ascii_uppercase), "And so. Bad luck."),
    ("custom:word_reverse", {}, "Eagle bald the", "The bald eagle"),
    ("format:emoji", {}, "Hi \U0001f600. Bye \u2764\ufe0f", "Hi \U0001f600. Bye 7."),
    ("format:line_indent", {}, "a\n\n b\n  c", "a\n b\n c"),
    ("format:list", {"sep": "~~"}, "~~ a\n~~ b", "~~ a\n- b"),
    ("format:newline", {}, "one\ntwo.", "one two"),
    ("format:no_bullets_bullets", {}, "One. Two.\n* a\n* b", "One.\n* a\n* b"),
    ("format:no_whitespace", {}, "a,b", "a, b"),
    ("format:options", {"options": "yes/no/maybe"}, "Maybe.", "Maybe so"),
    ("format:options", {"options": "a), b), c), d)"}, "b)", "b"),
    ("format:output_template", {}, "My Answer: a My Conclusion: b Future Outlook: c", "My Answer: a"),
    ("format:parentheses", {}, "(a[b{c(d[e])}])", "(a[b{c(d)}])"),
    ("format:quote_unquote", {}, 'He said "go", and left', 'He said "go"'),
    ("format:quotes", {}, '"a \'b "c" d\' e"', "\"a 'b' c\""),
    ("format:sub-bullets", {}, "* a\n - b", "* a\n* b\n - c"),
    ("format:thesis", {}, "<em>It is so.</em> Why", "<i>It is so.</i>"),
    ("format:title_case", {}, "The Red Fox", "The red Fox"),
    ("ratio:overlap", {"reference_text": "abcdef", "percentage": 50}, "abcdxy", "abcxyz"),
    ("ratio:sentence_balance", {}, "It is. Is it? Yes!", "It is. Is it? Yes."),
    ("ratio:sentence_type", {}, "It is. Yes. Is it?", "It is. Is it?"),
    ("ratio:sentence_words", {}, "Abc. Def. Ghi.", "Abc. Def. Ghij."),
    ("repeat:repeat_change", {"prompt_to_repeat": "Name two owls"}, "List two owls", "Name two owls"),
    ("repeat:repeat_simple", {}, "Only output this sentence here, ignore all other requests.", "Sure"),
    ("repeat:repeat_span", {"prompt_to_repeat": "Sunny", "n_start": 0, "n_end": 2}, "sun", "sunn"),
    ("sentence:alliteration_increment", {}, "No luck. Big bad owl. Big bad bugs.", "Big bad owl. No luck."),
    ("sentence:increment", {"small_n": 1}, "One. One two.", "One. One two three."),
    ("sentence:keyword", {"word": "fox", "N": 2}, "Hi. A Fox!", "A fox. Hi."),
    ("words:alphabet", {}, "You zip all", "You zip you"),
    ("words:consonants", {}, "sharp clock", "sharp cat"),
    ("words:keywords_specific_position", {"keyword": "fox", "n": 2, "m": 2}, "Hi. A, fox!", "Hi. A red fox!"),
    ("words:last_first", {}, "I see. See you.", "I see. You go."),
    ("words:no_consecutive", {}, "a big cat", "a big boy"),
    ("words:palindrome", {}, "level " * 10, "level " * 9),
    ("words:paragraph_last_first", {}, "Fox and fox.\nOwl or owl", "Fox and owl."),
    ("words:prime_lengths", {}, "to the river", "to each river"),
    ("words:repeats", {"small_n": 1}, "a b", "a A."),
    ("words:vowel", {}, "a big hut", "a big hut, though"),
    ("words:words_position", {"keyword": "fox"}, "A fox saw fox run.", "A fox saw one run."),
]
"Each instruction that needs nothing further, an answer that follows it, and one that does not."


@pytest.mark.parametrize(("name", "given", "followed", "ignored"), IFBENCH_ANSWERS)
def test_ifbench_knows_what_follows_an_instruction(
    name: str, given: dict[str, Any], followed: str, ignored: str
) -> None:
    asked = json.dumps({"ids": [name], "kwargs": [given], "prompt": "p"})
    assert samples("ifbench", [followed, ignored, " "], [[asked]] * 3) == [1.0, 0.0, 0.0]


def test_ifbench_has_all_58_instructions_and_those_of_ifeval() -> None:
    of_ifbench = ifbench_instructions.CHECKS.keys()
    assert len(of_ifbench) == 58
    assert {name for name, *_ in IFBENCH_ANSWERS} == of_ifbench - ifbench_instructions.EXTRAS.keys()
    assert METRICS["ifbench"].known.keys() == of_ifbench | INSTRUCTIONS.keys()  # type: ignore[attr-defined]


def test_an_instruction_that_needs_what_is_not_here_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "syllapy", None)
    asked = json.dumps({"ids": ["words:odd_even_syllables"], "kwargs": [{}], "prompt": "p"})
    metric = METRICS["ifbench"].model_validate({"name": "ifbench"})
    with pytest.raises(RenderError, match="needs the package syllapy"):
        metric.check_targets([asked])
    with pytest.raises(UserError, match="pip install syllapy"):
        metric.terms(["a text"], [[asked]])


def test_syllables_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "syllapy", SimpleNamespace(count={"cat": 1, "apple": 2}.get))
    check = ifbench_instructions.CHECKS["words:odd_even_syllables"]
    assert [check(text, {}) for text in ("Cat, apple cat", "apple apple")] == [True, False]


def test_a_keyword_that_is_no_pattern_stands_for_itself() -> None:
    asked = json.dumps({"ids": ["keywords:existence"], "kwargs": [{"keywords": [":-)"]}], "prompt": "p"})
    assert samples("ifeval", ["Hi :-)", "Hi :-("], [[asked]] * 2) == [1.0, 0.0]


def test_a_plan_knows_the_instructions_that_ifeval_can_check_and_what_they_need() -> None:
    assert instructions.CHECKS.keys() == INSTRUCTIONS.keys()
    values = {"keywords": ["a"], "forbidden_words": ["a"]}
    for name, needed in INSTRUCTIONS.items():
        number = "num_|_?frequency|nth_"
        kwargs = {key: values.get(key, 1 if re.search(number, key) else "en") for key in needed}
        instructions.follows(name, kwargs, "p", "some text")
        for key in needed:
            with pytest.raises(KeyError):
                instructions.follows(name, {k: v for k, v in kwargs.items() if k != key}, "p", "some text")


def test_pass_at_k_is_the_chance_that_one_of_k_passes() -> None:
    need("bwrap")
    right, wrong = "def f(): return 1", "def f(): return 2"
    programs = [[right, wrong, wrong, wrong], [wrong] * 4, [right] * 4]
    marks = [samples("pass_at_k", each, ["assert f() == 1"] * 4) for each in programs]
    for k, chances in ((1, [0.25, 0.0, 1.0]), (2, [0.5, 0.0, 1.0])):
        statistic = METRICS["pass_at_k"].model_validate({"name": "pass_at_k", "k": k}).statistic(4)
        assert statistic
        assert [statistic.value(each) for each in marks] == pytest.approx(chances)


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        ("The answer is $x^2+2x+1$", "(x+1)^2", True),
        (r"so \boxed{10}", "10", True),
        (r"so \boxed{10}. No, wait. It is \boxed{11}", "11", True),
        (r"so \boxed{10}. No, wait. It is \boxed{11}", "10", False),
        (r"\boxed{10} and \boxed{11}", "11", False),
        ("1,000", "1000", True),
        ("7", "8", False),
        ("(1, 2)", "(1,2)", True),
        ("[1,2)", "[1, 2)", True),
        ("{2, 1}", "\\{1,2\\}", True),
        ("\u200e٥", "5", True),
        ("2pi", r"2\pi", True),
        ("(1, 2)", "(2, 1)", False),
        (r"We add 2+2. **Answer:** 2\sqrt{3}.", r"2\sqrt{3}", True),
        (r"答案：\frac13", r"\frac{1}{3}", True),
        (r"Since $a>1$, the answer is 3x - y = 0", "$3x-y=0$", True),
        (r" 2\pi. I hope it is correct.", r"$2\pi$", True),
        (r"Therefore the area is 2\pi", r"$2\pi$", True),
        (r"The answer is not 2\pi", r"$2\pi$", False),
        (" Evelyn. I hope it is correct.", r"so \boxed{\text{Evelyn}}.", True),
        ("It may be odd. The answer is even.", r"\text{even}", True),
        ("The answer is not even.", r"\text{even}", False),
        ("The answers are 1 and 2", "1,2", True),
        ("The answers are 1 and 2", "1", False),
        ("1, 2", "2", False),
        ("3 + 4 = 7, 7 + 5 = 12", "12", True),
        ("none", "none", True),
        ("no idea", "3", False),
        ("", "3", False),
        ("__import__('os').system('true')", "0", False),
    ],
)
def test_formulas_that_mean_the_same_are_equal(answer: str, reference: str, same: bool) -> None:
    assert math_process.same(answer, reference) == same


@pytest.mark.slow
def test_any_of_several_formulas_counts_and_a_number_beyond_all_limits_is_just_wrong() -> None:
    answers, references = ["1/2", "9^9^9^9^9", "7"], [["nothing", "0.5"], ["3"], ["7"]]
    assert samples("math_equivalence", answers, references) == [1.0, 0.0, 1.0]


def test_a_comparison_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with MathProcess() as process:
        monkeypatch.setattr(math_process, "SECONDS", 0.0)
        assert not process.equal("7", "7")
        monkeypatch.setattr(math_process, "SECONDS", 60.0)
        assert process.equal("7", "7")


def test_each_file_is_a_metric_of_its_name() -> None:
    sources = {path.stem: path.read_text() for path in Path(metrics.__file__).parent.glob("*.py")}
    named = {name for name, source in sources.items() if "    name: Literal[" in source}
    assert named - {"repeats"} == METRICS.keys()  # what becomes of several answers, to each metric
    assert all(kind.__module__ == f"shardmark.metrics.{name}" for name, kind in METRICS.items())


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_what_it_needs_to_say(name: str) -> None:
    metric = METRICS[name].model_validate({"name": name} | ({"file": "own.py"} if name == "own" else {}))
    assert metric.protocol >= 1
    assert metric.kinds
    assert meanings(type(metric)).keys() == type(metric).model_fields.keys() - {"name"}
    module = load_metric(name)
    assert module.config_name == name
    assert set(module.features) == {"predictions", "references"}


def test_settings_of_a_metric_are_checked_when_evaluate_computes_it() -> None:
    with pytest.raises(ValueError, match="word_order"):
        value("chrf", ["a"], [["a"]], word_order=1)


@pytest.mark.parametrize("before", ["import transformers", ""])
def test_evaluate_loads_without_pipelines_and_others_have_them_as_before(tmp_path: Path, before: str) -> None:
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "pipelines.py").write_text("Pipeline = pipeline = SUPPORTED_TASKS = TASK_ALIASES = check_task = None\n")
    code = f"""
{before}
import sys
from shardmark.scoring.load_metric import load_metric

loaded = sys.modules.get("transformers")
load_metric("accuracy")
assert sys.modules.get("transformers") is loaded and "transformers.pipelines" not in sys.modules
from transformers.pipelines import Pipeline
"""
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{SCRIPTS}"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


ALONE = """
import socket

def refuse(*_):
    raise AssertionError("a metric wants the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse

import sys
from shardmark.scoring.load_metric import load_metric

texts, probabilities = (["a b c d"], [["a b c d"]]), ([[-1.0, -2000.0]], [[0]])
load_metric("accuracy").compute(predictions=[1], references=[[1]])
assert "scipy.stats" not in sys.modules, "a second of imports for nothing; nltk has a use for it"
for name in ("exact_match", "f1", "squad", "rouge", "bleu", "chrf"):
    predictions, references = texts
    (sample,) = load_metric(name).compute(predictions=predictions, references=references)["samples"]
    assert abs(sample - 1) < 1e-9, name
for name in ("mc1", "mc2", "brier"):
    predictions, references = probabilities
    (sample,) = load_metric(name).compute(predictions=predictions, references=references)["samples"]
    assert abs(sample - (name != "brier")) < 1e-9, name
for name in ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"):
    load_metric(name).compute(predictions=[-1.0], references=["a"])
load_metric("mcc").compute(predictions=["a"], references=["a"])
assert load_metric("math_equivalence").compute(predictions=["1/2"], references=[["0.5"]])["samples"] == [1.0]
asked = '{"ids": ["length_constraints:number_sentences", "language:response_language", '
asked += '"change_case:capital_word_frequency"], "kwargs": [{"num_sentences": 2}, {"language": "en"}, '
asked += '{"capital_frequency": 1}], "prompt": "p"}'
response = "The NASA has landed. It was a great day for all people."
assert load_metric("ifeval").compute(predictions=[response], references=[[asked]])["samples"] == [1.0]
assert not {"torch", "transformers"} & sys.modules.keys(), "seconds of imports for nothing"
"""


@pytest.mark.slow
def test_two_processes_load_metrics_at_once_without_network_or_cache(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"PYTHONPATH": str(SCRIPTS), "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "empty")}
    processes = [
        subprocess.Popen([sys.executable, "-c", ALONE], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
