"""The data sets of config/datasets, on made-up rows with the real columns: each asks exactly what is written down.

tests/fixtures/data is laid out like a data_root. tests/fixtures/prompts/NAME.txt is what `prompts` shows of the first
sample; after a deliberate change, write it anew with SHARDMARK_WRITE_PROMPTS=1.
"""

import os
import re
import runpy
import sys
import textwrap
from typing import Any

import pytest
import yaml

from repository_datasets import DATA, DATASETS, FIRST, FIXTURES, GROUPS, NAMES, OWN, ROOT, SHOWN, rendered, rows_of
from requirements_check import need
from shardmark.config import load
from shardmark.config.merge import Merged
from shardmark.config.suite import suite_names
from shardmark.errors import Problem, UserError
from shardmark.filters.chain import filter_steps
from shardmark.tasks import render
from shardmark.tools.prompts import show_prompts
from shardmark.tools.reading import MARGIN


def first(name: str) -> Any:
    return rendered(DATASETS[name])[0]


def test_every_file_is_a_data_set_or_a_group() -> None:
    assert {name.partition(".")[0] for name in (*DATASETS, *GROUPS)} == set(NAMES)
    assert len(OWN) >= 40
    assert all(group.members for group in GROUPS.values())


@pytest.mark.parametrize("name", SHOWN)
def test_a_data_set_asks_its_five_rows(name: str) -> None:
    samples = rendered(DATASETS[name])
    assert len(samples) == 5
    assert len({sample.request_id for sample in samples}) == 5
    assert DATASETS[name].settings.description


@pytest.mark.parametrize("name", [name for name in SHOWN if "." not in name or name in FIRST])
def test_the_first_sample_is_what_is_written_down(name: str) -> None:
    run = Merged({"models": ["demo_small"], "datasets": [name], "data_root": str(DATA)}, "test")
    shown = [line.replace(f"{DATA}/", "") for line in show_prompts(run, ROOT, [], 1)]
    lines = [line for line in shown if line.startswith(MARGIN) or not line.startswith(("  ", "as demo_small reads"))]
    text = "\n".join(lines) + "\n"
    file = FIXTURES / "prompts" / f"{name}.txt"
    if os.environ.get("SHARDMARK_WRITE_PROMPTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


# What reference descriptions of OpenCompass's tasks say, word for word


def test_mmlu_ppl() -> None:
    sample = first("mmlu_ppl")
    text = sample.request.pairs[1][1]
    head = "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
    shot = "Which abstract_algebra is 0?\nA. 0\nB. -1\nC. -2\nD. -3\nAnswer: A\n\n"
    assert text.startswith(head + shot)
    assert text.endswith("Answer: A\n\nWhich is 0?\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: B")
    assert (text.count("Answer: "), sample.group, sample.request.pairs[1][0]) == (6, "abstract_algebra", "")


def test_mbpp_gen() -> None:
    text = first("mbpp_gen").request.prompt
    asked = "You are an expert Python programmer, and here is your task: Write a function to add {}. "
    asked += "Your code should pass these tests:\n\n assert add(1) == {}\nassert add(0) == {}  \n\n[BEGIN]\n"
    shots = [f"{asked.format(n, n + 1, n)} 'def add(x):\n    return x + {n}' \n[DONE] \n\n \n" for n in (2, 3, 4)]
    assert text == "".join(shots) + asked.format(11, 12, 11)


def test_humaneval_gen() -> None:
    sample = first("humaneval_gen")
    assert sample.request.prompt == (
        "Read the following function signature and docstring, and fully implement the function described. "
        "Your response should only contain the code for this function.\n" + sample.row["prompt"]
    )
    assert sample.target == [sample.row["test"] + "\ncheck(add_0)"]


@pytest.mark.parametrize("name", ["humaneval_gen", "humaneval_plus_gen"])
def test_a_body_may_have_lost_its_indentation(name: str) -> None:
    row = {"prompt": "def f(x):\n", "entry_point": "f"}
    body = "    if x:\n        return 1\n    return 2"
    whole = "ONE = 1\n\ndef f(x):\n    return ONE"
    answers = [body, body.strip(), textwrap.dedent(body), whole, "import math\n    return 2"]
    found = filter_steps(answers, DATASETS[name].settings.filters, row)[-1]
    assert found == [row["prompt"] + program for program in (body, body, body, *answers[3:])]


def test_a_perplexity_prompt_joins_turns_by_a_newline() -> None:
    assert first("hellaswag_ppl").request.pairs[2][1] == "A fox sits by a pond. it\neats nectar."
    assert first("winogrande_ppl").request.pairs[0][1].startswith("Good sentence: The fox chased the hen because the")


def test_bbh_has_three_examples_of_the_same_task() -> None:
    text = first("bbh-navigate").request.prompt
    assert text.count("of navigate?") == 4
    assert text.startswith(
        "Follow the given examples and answer the question.\n\nQ: Made-up question 1 of navigate?\nA: (B)"
    )
    assert len(GROUPS["bbh_gen"].members) == 27


def test_gpqa_rotates_its_options_and_asks_for_the_letter_of_the_right_one() -> None:
    samples = rendered(DATASETS["gpqa_main_gen"])
    assert [sample.target for sample in samples] == [["D"], ["C"], ["B"], ["A"], ["D"]]
    for number, sample in enumerate(samples):
        assert f"\n{sample.target[0]}) right {number}" in sample.request.prompt  # type: ignore[union-attr,operator]


def test_truthfulqa_mc_has_several_right_choices() -> None:
    assert first("truthfulqa_mc").target == [1, 2]


def test_questions_of_triviaqa_may_repeat() -> None:
    settings = DATASETS["triviaqa_gen"].settings
    rows = list(rows_of(settings.source, ""))
    assert len({sample.id for sample in render(settings, [*rows, *rows], "")}) == 10
    assert settings.cluster_by == "question_id"


def test_a_short_answer_ends_at_a_comma_and_so_may_its_target() -> None:
    settings = DATASETS["nq_gen"].settings
    row = {"question": "where is it", "answer": ["Nashville, Tennessee", "July 20, 1969"]}
    (sample,) = render(settings, [row], "")
    assert sample.target == ["Nashville, Tennessee", "July 20, 1969", "Nashville"]
    texts = ["The answer is Nashville, Tennessee.", "The answer is Mt. Hood, Oregon", "It is 11 p.m. to 3 a.m."]
    assert filter_steps(texts, settings.filters, row)[-1] == ["Nashville", "Mt. Hood", "It is 11 p.m. to 3 a.m."]
    assert filter_steps(["Answer: Martin Luther King, Jr., USA"], settings.filters, row)[-1] == [
        "Martin Luther King, Jr."
    ]


def test_mmmlu_asks_an_option_that_a_table_has_lost_as_opencompass_does() -> None:
    settings = DATASETS["mmmlu_gen.AR_XY"].settings
    row = next(iter(rows_of(settings.source, ""))) | {"B": None}
    (sample,) = render(settings, [row], "")
    assert "\nب. None\n" in sample.request.prompt  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("hellaswag_gen", {"label": ""}),
        ("winogrande_gen", {"answer": ""}),
        ("piqa_gen", {"label": -1}),
        ("siqa_gen", {"label": "0"}),
        ("boolq_gen", {"answer": "false"}),
        ("ceval_ppl.computer_network", {"answer": ""}),
        ("commonsenseqa_gen", {"answerKey": ""}),
        ("obqa_gen", {"answerKey": "1"}),
        ("MedQA_gen.US", {"answer_idx": ""}),
        ("anli_gen.R1", {"label": -1}),
        ("gsm8k_gen", {"answer": "#### "}),
    ],
)
def test_rows_without_a_label_are_refused(name: str, label: dict[str, Any]) -> None:
    settings = DATASETS[name].settings
    row = next(iter(rows_of(settings.source, ""))) | label
    examples = settings.example_source()
    with pytest.raises(UserError, match=r"target: row 0: "):
        list(render(settings, [row], "f.yaml", None, rows_of(examples, "") if examples else ()))


@pytest.mark.parametrize(
    ("name", "row", "right", "wrong"),
    [
        ("lambada_gen", {"text": "He yelled, “Holt"}, [" Holt!”", "“Holt"], [" Hold"]),
        ("lambada_gen", {"text": "She saw the \n\nrecorder"}, [" recorder."], [" record"]),
        (
            "agieval_cloze_gen.gaokao-mathcloze",
            {"query": "", "answer": "$5$;$10$"},
            [r"\boxed{5,10}", r"\boxed{5}, \boxed{10}", "答案为 $5$；$10$", "答案是 $5$;$10$"],
            [r"\boxed{10}", r"\boxed{5}"],
        ),
        (
            "bbeh_gen",
            {"task": "web of lies", "input": "", "target": "yes, no, 'x'"},
            [
                "The answer is: **Yes,no ,'x'**\nmore",
                r"the answer is 1. The answer is: \boxed{\text{yes, no, 'x'}}.",
                "yes, no, x",
            ],
            ["yes, no", "The answer is: yes no 'x'", "the answer is: yes, x, no"],
        ),
        (
            "bbeh_gen",
            {"task": "nycc", "input": "", "target": "(C)"},
            ["The answer is: (c)", "The answer is: **C**.", "The final answer is (C), since", "**Answer:**\n\nC"],
            ["The answer is: (D)", "(C) or (D)? The answer is: unknown"],
        ),
        (
            "bbeh_gen",
            {"task": "buggy tables", "input": "", "target": "26.1"},
            ["The answer is: 26.10."],
            ["The answer is: 26"],
        ),
        (
            "bbeh_gen",
            {"task": "time arithmetic", "input": "", "target": "[]"},
            ["The answer is: []."],
            ["The answer is: ."],
        ),
        (
            "bbh_cot_free_gen.formal_fallacies",
            {"input": "", "target": "valid"},
            [
                "### Final Answer\nvalid",
                "**Final answer:**\n\nValid",
                r"$\text{valid}$.",
                "the answer is valid. It holds.",
            ],
            ["the answer is invalid.", "**Answer:**\ninvalid"],
        ),
        (
            "medmcqa_gen",
            dict.fromkeys(("question", "opa", "opb", "opc", "opd"), "") | {"cop": 1, "id": 0, "subject_name": ""},
            ["Of A through D, B is right, not C", "A patient of 45. The answer is B."],
            ["A or B", "CB"],
        ),
        (
            "anli_gen.R1",
            {"premise": "", "hypothesis": "", "label": 0, "uid": ""},
            [
                "B",
                "B. Entailment",
                "**Entailment**\nThe first",
                "The relation is (B) Entailment.\nQuestion: What is",
                "I would say **B**.",
            ],
            ["Neutral", "A or B", "The answer is C."],
        ),
        (
            "musr_gen.team_allocation",
            {"narrative": "", "question": "", "choices": "['a', \"b's\"]", "answer_index": 1},
            ["1\nANSWER: 2 - b's", "ANSWER: no, ANSWER: (2)", "ANSWER: 1\n**Answer:** 2", "ANSWER:\n2\nAnswer: "],
            ["2", "ANSWER: b's", "ANSWER: 21", "ANSWER: 2, ANSWER: b"],
        ),
        (
            "needle_gen",
            {"id": "0", "length": 1000, "context": "", "key": "x", "answer": "1234567"},
            ["It is 1,234,567, I think.", "**1234567**"],
            ["12345678", "1,234,5678", "7654321"],
        ),
        (
            "SuperGLUE_ReCoRD_gen",
            {"passage": "", "query": "", "answers": ["the U.S. Senate", "O'Neill"]},
            ["\nAnswer: The U.S. Senate.", "ONeill, who\nran", "The answer is O’Neill", "o'neill"],
            ["Answer\nthe U.S. Senate", "Senate", "The U."],
        ),
        (
            "zebralogic_gen",
            {"id": 0, "puzzle": "", "question": "", "choices": ["x", "y"], "answer": "y"},
            ["**A**. The final answer is: (b)", "The answer is: **B**", "The answer is Alice, (B)", "(B)"],
            ["A or B", "The answer is: A", "The answer is Bob"],
        ),
    ],
)
def test_a_row_with_a_quirk_is_judged_by_what_it_means(
    name: str, row: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    from shardmark.filters.chain import filter_steps

    settings = DATASETS[name].settings
    (sample,) = render(settings, [row], "")
    answers = filter_steps([*right, *wrong], settings.filters, row)[-1]
    metric: Any = settings.metrics[0]
    scores = metric.scores([answer or "" for answer in answers], [sample.target] * len(answers))
    assert scores == [1.0] * len(right) + [0.0] * len(wrong)


@pytest.mark.parametrize("language", ["en", "de", "zh", "te"])
def test_mgsm_takes_the_last_number_after_the_answer_in_its_language(language: str) -> None:
    from shardmark.filters.chain import filter_steps

    settings = DATASETS[f"mgsm_{language}_gen"].settings
    words = {"en": "Answer: 1,234", "de": "Antwort: 1234.", "zh": "答案：1234", "te": "సమాధానం: 1234"}[language]
    assert filter_steps([f"5 + 7 = 12\n{words}", "99"], settings.filters, {})[-1] == ["1234", None]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("mgsm_en_gen", "w "), ("nq_gen", "a. "), ("zebralogic_gen", "\n"), ("gsm8k_gen", "\\boxed{")),
        *(("musr_gen.team_allocation", "ANSWER: "), ("livecodebench_gen", " ")),
        *((name, f"\\boxed{{{'}' * 59_992}x") for name in ("bbeh_gen", "bbh_cot_free_gen.navigate")),
    ],
)
def test_an_output_that_never_ends_is_read_within_the_bounds(name: str, text: str) -> None:
    from shardmark.filters.chain import filter_steps

    whole = (text * (60_000 // len(text) + 1))[:60_000]
    assert len(filter_steps([whole], DATASETS[name].settings.filters, {})[-1]) == 1


@pytest.mark.parametrize("name", ["bbh-boolean_expressions", "bbh_cot_free_gen.boolean_expressions"])
def test_an_output_of_200_000_marks_is_read_within_the_bounds(name: str) -> None:
    from shardmark.filters.chain import filter_steps

    assert filter_steps([". " * 100_000], DATASETS[name].settings.filters, {})[-1] == [""]


@pytest.mark.parametrize("name", ["boolq_gen", "SuperGLUE_RTE_gen", "SuperGLUE_WSC_gen", "SuperGLUE_WiC_gen"])
def test_yes_and_no_state_an_option(name: str) -> None:
    from shardmark.filters.chain import filter_steps

    told = {" Yes\nAnswer: No": "A", "**No.**": "B", "no, it is not": "B", " B\nAnswer: B": "B", "Nobody knows": None}
    told |= {"": None, "A. Yes": "A", "The answer is B": "B"}
    assert dict(zip(told, filter_steps(list(told), DATASETS[name].settings.filters, {})[-1], strict=True)) == told


@pytest.mark.parametrize("kind", ["choice", "free"])
def test_the_answers_of_the_published_explanations_of_bbh_are_found(kind: str) -> None:
    from shardmark.filters.chain import filter_steps

    parts = yaml.safe_load((ROOT / f"config/datasets/bbh_cot/bbh_cot_{kind}_gen.yaml").read_text("utf-8"))["parts"]
    for part, values in parts.items():
        explained = re.findall(r"step by step\.(.*?answer is (.*?)\.?)(?=\n\nQ:|\Z)", values["hint"], re.DOTALL)
        filters = DATASETS[f"bbh_cot_{kind}_gen.{part}"].settings.filters
        assert len(explained) == 3
        assert [filter_steps([text], filters, {})[-1][0] for text, _ in explained] == [right for _, right in explained]


@pytest.mark.parametrize("kind", ["complete", "instruct"])
def test_bigcodebench_passes_its_solutions_and_no_others(kind: str) -> None:
    from shardmark.filters.chain import filter_steps

    need("bwrap")
    name = f"bigcodebench_full_{kind}_gen"
    sample = rendered(DATASETS[name])[1]
    row, settings = sample.row, DATASETS[name].settings
    written = f"Here it is:\n```python\n{row['complete_prompt']}{row['canonical_solution']}\n```\nDone."
    answers = [written, written.replace("1 *", "2 *"), *([row["canonical_solution"]] if kind == "complete" else [])]
    programs = [filter_steps([answer], settings.filters, row)[-1][0] for answer in answers]
    metric = settings.metrics[0].model_copy(update={"python": sys.executable})
    metric.check_targets(sample.target)  # type: ignore[arg-type]
    terms = metric.terms(programs, sample.target * len(programs))  # type: ignore[operator]
    assert [passed for passed, _ in terms] == [1.0, 0.0, 1.0][: len(answers)]


@pytest.mark.slow
def test_cruxeval_runs_the_value_but_not_the_call() -> None:
    from shardmark.filters.chain import filter_steps

    need("bwrap")
    sample, settings = rendered(DATASETS["cruxeval_o_gen"])[1], DATASETS["cruxeval_o_gen"].settings
    right = [" 'owl' * 2 # done", "assert f('owl') == 'owlowl'", "```python\nassert f('owl') == 'owlowl'\n```"]
    wrong = ["f('owl')", "'owl'", "'owl' or 'owlowl'"]
    programs = filter_steps([*right, *wrong], settings.filters, sample.row)[-1]
    metric: Any = settings.metrics[0]
    terms = metric.terms(programs, sample.target * 6)  # type: ignore[operator]
    assert [passed for passed, _ in terms] == [1.0] * 3 + [0.0] * 3


def test_every_data_set_says_what_it_asks_about_and_the_faithful_ones_where_they_come_from() -> None:
    assert [name for name in DATASETS if not DATASETS[name].settings.topics] == []
    faithful = [each.settings for each in DATASETS.values() if each.settings.same_as]
    assert len(faithful) > 300
    assert all(settings.licence and settings.paper for settings in faithful)


@pytest.mark.parametrize("name", suite_names(ROOT))
def test_a_suite_names_data_sets_that_are_here(name: str) -> None:
    found: list[Problem] = []
    benchmark = load({"models": ["demo_small"], "datasets": [f"suite/{name}"]}, ROOT, "config", found)
    assert (found, bool(benchmark.datasets)) == ([], True)


@pytest.mark.parametrize("table", ["suites", "datasets"])
def test_the_tables_of_the_document_are_those_that_the_script_writes(table: str) -> None:
    suites = runpy.run_path(str(ROOT / "benchmarks/suites.py"))
    document = (ROOT / "docs/datasets.md").read_text("utf-8")
    between = document.partition(f"<!-- {table} -->\n")[2].partition(f"\n<!-- end of {table} -->")[0]
    assert between.splitlines() == list(suites["TABLES"][table]()), "run python benchmarks/suites.py"
