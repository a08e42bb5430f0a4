"""Rows become requests: the exact text that a model sees, and the right answer beside it."""

import hashlib
import resource
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import asked
from asked import choice, generate, rolling
from projects import choice_settings, dataset_settings, problems
from shardmark.config import DatasetConfig
from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem
from shardmark.tasks import Sample, characters, render, request_id
from shardmark.untrusted.limits import bounded_steps

ROOT = Path(__file__).parents[2]
QUESTIONS: list[dict[str, Any]] = [{"question": q, "answer": a} for q, a in (("1+1?", 2), ("1+2?", 3), ("2+2?", 4))]
OPTIONS: list[dict[str, Any]] = [{"q": "Sky?", "options": ["blue", "red"], "label": 0}]


def rendered(*arguments: Any, **keywords: Any) -> list[Sample]:
    return list(render(*arguments, **keywords))


def prompts(samples: list[Sample]) -> list[str]:
    return [sample.request.prompt for sample in samples]


def pairs(sample: Sample) -> list[list[str]]:
    return [list(pair) for pair in sample.request.pairs]


def told(settings: DatasetConfig, rows: list[dict[str, Any]]) -> Problem:
    (problem,) = problems(rendered, settings, rows, "d.yaml")
    assert problem.where == "d.yaml"
    return problem


# Generation


def test_a_row_becomes_a_prompt_with_the_right_answer() -> None:
    settings = dataset_settings(generation={"max_new_tokens": 5, "stop": ["\n"]})
    (sample,) = rendered(settings, QUESTIONS[:1], "d.yaml")
    assert sample.request == generate("Q: 1+1?\nA:", 5, ["\n"])
    assert (sample.id, sample.row, sample.target, sample.choices) == ("0", QUESTIONS[0], ["2"], None)


def test_a_template_may_use_the_number_of_a_row_where_no_column_is_called_so() -> None:
    settings = dataset_settings(prompt="{{ row_number }}: {{ question }}", target="answer + row_number")
    samples = rendered(settings, [*QUESTIONS, QUESTIONS[0] | {"row_number": 7}], "d.yaml")
    assert prompts(samples) == ["0: 1+1?", "1: 1+2?", "2: 2+2?", "7: 1+1?"]
    assert [sample.target for sample in samples] == [["2"], ["4"], ["6"], ["9"]]
    kept = rendered(dataset_settings(where="row_number == 1"), QUESTIONS, "d.yaml")
    assert (prompts(kept), kept[0].row) == (["Q: 1+2?\nA:"], QUESTIONS[1] | {"row_number": 1})


def test_only_generation_settings_that_are_no_defaults_are_part_of_a_request() -> None:
    plain, same, drawn = (
        rendered(dataset_settings(generation=generation), QUESTIONS[:1], "d.yaml")[0]
        for generation in (
            {"max_new_tokens": 256},
            {"temperature": 0, "top_k": 0, "top_p": 1, "seed": 0, "samples": 1, "min_new_tokens": 0},
            {"temperature": 1, "top_p": 0.9, "seed": 3},
        )
    )
    assert plain.request == generate("Q: 1+1?\nA:", 256)
    assert same.request_id == plain.request_id == PLAIN_ID
    assert drawn.request == generate("Q: 1+1?\nA:", 256, temperature=1.0, top_p=0.9, seed=3)


PLAIN_ID = "0d4d428c96a0019294a825228ccd68a4e24d27c0878935cfbe9f508c5f6b1c5a"
"What the request had for its id before there were other settings: predictions that were made then stay valid."


@pytest.mark.parametrize(
    ("target", "right"),
    [("answer", ["2"]), ("[answer, 'two']", ["2", "two"]), ("answer + 1", ["3"]), ("'#' ~ answer", ["#2"])],
)
def test_the_target_is_one_answer_or_a_list(target: str, right: list[str]) -> None:
    assert rendered(dataset_settings(target=target), QUESTIONS[:1], "d.yaml")[0].target == right


def test_worked_examples_stand_before_the_question() -> None:
    shots = {
        "examples": [{"question": "0+0?", "answer": 0}, {"question": "0+1?", "answer": 1}],
        "answer": " {{ answer }}.",
        "separator": "\n--\n",
    }
    (sample,) = rendered(dataset_settings(few_shot=shots), QUESTIONS[:1], "d.yaml")
    assert prompts([sample]) == ["Q: 0+0?\nA: 0.\n--\nQ: 0+1?\nA: 1.\n--\nQ: 1+1?\nA:"]


def test_worked_examples_are_apart_by_an_empty_line_unless_said_otherwise() -> None:
    shots = {"examples": [{"question": "0+0?", "answer": 0}], "answer": " {{ answer }}"}
    assert prompts(rendered(dataset_settings(few_shot=shots), QUESTIONS[:1], "d.yaml")) == [
        "Q: 0+0?\nA: 0\n\nQ: 1+1?\nA:"
    ]


def test_a_column_called_target_is_not_the_answer_of_an_example() -> None:
    rows = [{"q": "1+1?", "target": "easy", "right": "2"}, {"q": "1+2?", "target": "hard", "right": "3"}]
    settings = dataset_settings(prompt="{{ target }} {{ q }}", target="right", few_shot={"count": 1, "separator": " "})
    assert prompts(rendered(settings, rows, "d.yaml"))[0] == "hard 1+2? 3 easy 1+1?"


# Choices


def test_each_choice_continues_the_prompt() -> None:
    (sample,) = rendered(choice_settings(), OPTIONS, "d.yaml")
    assert sample.request == choice(("Sky?", " blue"), ("Sky?", " red"))
    assert (sample.target, sample.choices) == (0, ["blue", "red"])


def test_with_perplexity_each_choice_is_a_whole_text() -> None:
    settings = choice_settings(prompt="{{ q }} It is {{ choice }}.", scoring="perplexity")
    assert pairs(rendered(settings, OPTIONS, "d.yaml")[0]) == [["", "Sky? It is blue."], ["", "Sky? It is red."]]


def test_the_continuation_may_be_worded() -> None:
    (sample,) = rendered(choice_settings(continuation=": {{ choice | upper }}"), OPTIONS, "d.yaml")
    assert pairs(sample) == [["Sky?", ": BLUE"], ["Sky?", ": RED"]]
    assert sample.choices == ["blue", "red"]


def test_the_choice_may_stand_in_the_prompt_and_the_rest_be_scored() -> None:
    settings = choice_settings(prompt="The {{ choice }}", continuation=" sky.")
    assert pairs(rendered(settings, OPTIONS, "d.yaml")[0]) == [["The blue", " sky."], ["The red", " sky."]]


def test_what_stands_before_the_prompt_may_tell_the_choice() -> None:
    settings = choice_settings(preamble="{{ choice }}? ", prompt="{{ q }}")
    (sample,) = rendered(settings, OPTIONS, "d.yaml")
    assert pairs(sample) == [["blue? Sky?", " blue"], ["red? Sky?", " red"]]


@pytest.mark.parametrize("scoring", ["sum", "perplexity"])
def test_worked_examples_stand_before_every_choice(scoring: str) -> None:
    shots = {"examples": [{"q": "Grass?", "choice": "green"}], "answer": "!", "separator": "\n"}
    settings = choice_settings(prompt="{{ q }} {{ choice }}", scoring=scoring, few_shot=shots)
    contexts = {"sum": "Grass? green!\nSky? blue", "perplexity": ""}
    continuations = {"sum": " blue", "perplexity": "Grass? green!\nSky? blue"}
    assert pairs(rendered(settings, OPTIONS, "d.yaml")[0])[0] == [contexts[scoring], continuations[scoring]]


@pytest.mark.parametrize(
    ("choices", "spelt"),
    [
        ("options", ["blue", "red"]),
        ("options | reverse", ["red", "blue"]),
        (["{{ options[1] }}", "none of them"], ["red", "none of them"]),
        ("[label, 1]", ["0", "1"]),
    ],
)
def test_choices_are_templates_or_an_expression(choices: Any, spelt: list[str]) -> None:
    assert rendered(choice_settings(choices=choices), OPTIONS, "d.yaml")[0].choices == spelt


@pytest.mark.parametrize(("label", "index"), [(1, 1), ("1", 1), (1.0, 1), (True, 1), (False, 0)])
def test_the_label_is_the_index_of_a_choice(label: Any, index: int) -> None:
    assert rendered(choice_settings(), [OPTIONS[0] | {"label": label}], "d.yaml")[0].target == index


@pytest.mark.parametrize("label", [2, -1, "7"])
def test_a_label_outside_the_choices_is_refused(label: Any) -> None:
    problem = told(choice_settings(), [*OPTIONS, OPTIONS[0] | {"label": label}])
    assert problem.key == "target"
    assert problem.what == f"row 1: label {label} is outside the 2 choices"
    assert problem.fix == "count choices from 0"


@pytest.mark.parametrize("label", ["B", None, 0.5, float("nan"), float("inf"), {}])
def test_a_label_that_is_no_index_is_refused(label: Any) -> None:
    problem = told(choice_settings(), [OPTIONS[0] | {"label": label}])
    assert problem.what == f"row 0: expected the index of the right choice, found {label!r}"


@pytest.mark.parametrize("options", [[], "blue", None, {"text": ["blue"]}])
def test_choices_that_are_no_list_are_refused(options: Any) -> None:
    problem = told(choice_settings(), [OPTIONS[0] | {"options": options}])
    assert (problem.key, problem.what) == ("choices", f"row 0: expected a list of choices, found {options!r}")


def test_a_prompt_that_is_the_same_for_all_choices_is_refused() -> None:
    problem = told(choice_settings(scoring="perplexity"), OPTIONS)
    assert (problem.key, problem.what) == ("prompt", "without {{ choice }}, all choices are the same to the model")
    problem = told(choice_settings(continuation=" yes"), OPTIONS)
    assert problem.key == "continuation"


# Which rows


def test_only_rows_that_fulfil_the_condition_are_used() -> None:
    samples = rendered(dataset_settings(where="answer > 2"), QUESTIONS, "d.yaml")
    assert [(sample.id, sample.target) for sample in samples] == [("1", ["3"]), ("2", ["4"])]


def test_the_limit_counts_rows_that_are_used() -> None:
    samples = rendered(dataset_settings(where="answer != 2"), QUESTIONS, "d.yaml", limit=1)
    assert prompts(samples) == ["Q: 1+2?\nA:"]
    assert len(rendered(dataset_settings(), QUESTIONS, "d.yaml", limit=2)) == 2
    assert len(rendered(dataset_settings(), QUESTIONS, "d.yaml", limit=99)) == 3


def test_a_condition_that_leaves_no_row_is_refused() -> None:
    problem = told(dataset_settings(where="answer > 9"), QUESTIONS)
    assert (problem.key, problem.what) == ("where", "no row is left")


def test_a_condition_that_is_the_text_false_is_refused() -> None:
    problem = told(dataset_settings(where="keep"), [QUESTIONS[0] | {"keep": "False"}, QUESTIONS[1] | {"keep": "TRUE"}])
    assert (problem.key, problem.what) == ("where", "row 0: it is the text 'False', which would count as true")


def test_a_prompt_in_pythons_notation_is_refused() -> None:
    problem = told(dataset_settings(prompt="Q: {question}"), QUESTIONS)
    assert (problem.key, problem.fix) == ("prompt", "write {{ question }} for a column")
    assert rendered(dataset_settings(prompt="{question} is {{ question }}"), QUESTIONS, "d.yaml")


@pytest.mark.parametrize(
    ("key", "source", "fix"),
    [
        ("target", "{{ answer }}", "write the expression without {{ }}; `~` joins texts"),
        ("prompt", "{{ my question }}", "write column('NAME') for a column whose name has spaces"),
        ("prompt", "{{ my-question }}", "write column('my-question')"),
    ],
)
def test_usual_mistakes_in_templates_are_told_with_their_fix(key: str, source: str, fix: str) -> None:
    problem = told(dataset_settings(**{key: source}), [QUESTIONS[0] | {"my-question": "x"}])
    assert (problem.key, problem.fix.startswith(fix)) == (key, True)


def test_rows_are_named_by_a_column() -> None:
    rows = [{"question": "a", "answer": "b", "key": key} for key in ("x", 7)]
    assert [sample.id for sample in rendered(dataset_settings(id_column="key"), rows, "d.yaml")] == ["x", "7"]


def test_ids_that_stand_twice_are_refused() -> None:
    rows = [{"question": "a", "answer": "b", "key": key} for key in ("x", "y", 1, "x", "1")]
    problem = told(dataset_settings(id_column="key"), rows)
    assert (problem.key, problem.what) == ("id_column", "the id 'x' occurs twice (2 ids do)")
    assert problem.fix


def test_an_id_column_that_is_missing_is_named() -> None:
    problem = told(dataset_settings(id_column="key"), [QUESTIONS[0] | {"key": 1}, QUESTIONS[1]])
    assert (problem.key, problem.what) == ("id_column", "row 1: no column 'key'")
    assert "question" in problem.fix


# What fails


@pytest.mark.parametrize(
    ("key", "source"),
    [("prompt", "{{ questoin }}"), ("target", "questoin"), ("where", "questoin"), ("where", "questoin == 'x'")],
)
def test_a_column_that_is_missing_is_named_with_its_row_and_the_nearest(key: str, source: str) -> None:
    problem = told(dataset_settings(**{key: source}), QUESTIONS[:2])
    assert (problem.key, problem.what) == (key, "row 0, 1: no column 'questoin'")
    assert problem.fix == "did you mean 'question'?"


@pytest.mark.parametrize("choices", ["optoins", "[optoins]", ["{{ optoins }}"], "optoins.text"])
def test_a_column_that_is_missing_in_the_choices_is_named(choices: Any) -> None:
    problem = told(choice_settings(choices=choices), OPTIONS)
    assert (problem.what, problem.fix) == ("row 0: no column 'optoins'", "did you mean 'options'?")
    assert problem.key == ("choices.0" if isinstance(choices, list) else "choices")


def test_a_template_that_fails_on_one_row_names_it() -> None:
    rows = [*QUESTIONS, {"question": None, "answer": 1}]
    problem = told(dataset_settings(prompt="{{ question.strip() }}"), rows)
    assert (problem.key, problem.what) == ("prompt", "row 3: UndefinedError: 'None' has no attribute 'strip'")


def test_many_rows_that_fail_are_counted() -> None:
    problem = told(dataset_settings(prompt="{{ nope }}"), QUESTIONS * 4)
    assert problem.what == "row 0, 1, 2 and 9 more: no column 'nope'"


def test_with_a_limit_rows_that_fail_count_as_well() -> None:
    (problem,) = problems(rendered, dataset_settings(prompt="{{ nope }}"), QUESTIONS, "d.yaml", limit=2)
    assert problem.what == "row 0, 1: no column 'nope'"


def test_different_keys_that_fail_on_different_rows_are_told_together() -> None:
    rows = [
        *OPTIONS,
        {"q": "x", "options": [], "label": 0},
        {"q": "x", "options": ["a", "b"], "label": 5},
        {"options": ["a", "b"]},
    ]
    found = problems(rendered, choice_settings(), rows, "d.yaml")
    assert [(problem.key, problem.what.split(":")[0]) for problem in found] == [
        ("choices", "row 1"),
        ("target", "row 2, 3"),
        ("prompt", "row 3"),
    ]


def test_mistakes_of_syntax_are_told_together_before_any_row() -> None:
    settings = dataset_settings(prompt="{{ question", target="answer +", where="(")
    found = problems(rendered, settings, [{"unlike": "the others"}], "d.yaml")
    assert [problem.key for problem in found] == ["where", "target", "prompt"]
    assert all(problem.what.startswith("not a valid template: ") and problem.fix for problem in found)


def test_a_worked_example_without_a_column_is_named() -> None:
    shots = {"examples": [{"question": "a", "answer": "b"}, {"question": "a"}], "answer": "{{ answer }}"}
    problem = told(dataset_settings(few_shot=shots), QUESTIONS)
    assert (problem.key, problem.what) == ("few_shot.examples.1", "no column 'answer'")


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "{{ ''.__class__.__mro__ }}"},
        {"target": "''.__class__"},
        {"where": "question.__class__"},
        {"prompt": "{{ tags.append(1) }}"},
    ],
    ids=["chain", "class", "condition", "mutation"],
)
def test_a_template_that_leaves_the_sandbox_fails_with_an_error(changes: dict[str, str]) -> None:
    row = {"question": "a", "answer": "b", "tags": []}
    problem = told(dataset_settings(**changes), [row])
    assert problem.key in changes
    assert "SecurityError" in problem.what
    assert row["tags"] == []


# Identity


def test_equal_questions_have_one_id_whatever_their_row_and_answer() -> None:
    rows = [{"question": "a", "answer": 1}, {"question": "b", "answer": 1}, {"question": "a", "answer": 2, "more": 3}]
    ids = [sample.request_id for sample in rendered(dataset_settings(), rows, "d.yaml")]
    assert ids[0] == ids[2] != ids[1]


def test_the_id_covers_all_that_the_model_is_asked() -> None:
    variants = [
        {},
        {"generation": {"max_new_tokens": 3}},
        {"generation": {"stop": ["x"]}},
        {"prompt": "{{ question }}"},
    ]
    ids = {rendered(dataset_settings(**changes), QUESTIONS[:1], "d.yaml")[0].request_id for changes in variants}
    assert len(ids) == len(variants)


def test_the_id_of_a_request_stays_what_it_is_in_files() -> None:
    in_file = b'{"kind":"choice","pairs":[["a"," b"]]}'
    assert request_id(choice(("a", " b"))) == hashlib.sha256(in_file).hexdigest()


def test_the_length_of_a_request_counts_all_of_its_text() -> None:
    assert characters(generate("12345", 9)) == 5
    assert characters(choice(("123", "4"), ("123", "45"))) == 5


# The data sets of this repository that OpenCompass has too: the exact text that it gives to base models, whose turns it
# joins with a newline.


def of_repository(name: str, row: dict[str, Any]) -> Sample:
    found: list[Problem] = []
    settings = DatasetConfig.model_validate(read_yaml(ROOT / f"config/datasets/{name}.yaml", "d.yaml", found))
    (sample,) = rendered(settings, [row], name)
    return sample


def test_siqa_gen() -> None:
    row = {"context": "Kim fed the cat.", "question": "How does the cat feel?", "label": "3"}
    sample = of_repository("siqa_gen", row | {"answerA": "hungry", "answerB": "angry", "answerC": "full"})
    assert sample.request == generate(
        "Kim fed the cat.\nQuestion: How does the cat feel?\nA. hungry\nB. angry\nC. full\nAnswer:", 32
    )
    assert sample.target == ["C"]


def test_winograd_ppl() -> None:
    row = {"text": "The cup fell off the shelf because it was loose.", "pronoun": "it", "label": 1}
    sample = of_repository("winograd_ppl", row | {"options": ["the cup", "the shelf"], "source": "made up"})
    start = f"{row['text']} Q: In the previous text, what does 'it' refer to? A: the "
    assert pairs(sample) == [["", f"{start}cup"], ["", f"{start}shelf"]]
    assert sample.target == 1


def test_gsm8k_gen() -> None:
    row = {
        "question": "Ann has 2 pens and buys 1,000 more. How many?",
        "answer": "2+1000=<<2+1000=1002>>1002\n#### 1,002",
    }
    sample = of_repository("gsm8k_gen", row)
    request: Any = sample.request
    assert (request.max_new_tokens, request.stop) == (512, ["Question:"])
    assert sample.target == ["1002"]
    *shots, question = request.prompt.split("Question: ")
    assert question == f"{row['question']}\nLet's think step by step\nAnswer:"
    assert [shot.count("\nLet's think step by step\nAnswer:\n") for shot in shots] == [0, 1, 1, 1, 1]
    assert [shot.rsplit("\n", 3)[1:] for shot in shots[1:]] == [
        [f"The answer is {number}", "", ""] for number in (4, 201, 140, 146)
    ]
    assert shots[1].startswith("Angelo and Melanie want to plan how many hours over the next week")
    assert shots[3].endswith("Bella will have a total of 14+42+84 = 140 items\nThe answer is 140\n\n")


def test_arc_c_ppl() -> None:
    choices = {"text": ["rain", "sun", "wind", "snow"], "label": ["A", "B", "C", "D"]}
    sample = of_repository("ARC_c_ppl", {"id": "x1", "question": "What is hot?", "choices": choices, "answerKey": "B"})
    assert pairs(sample) == [["", f"Question: What is hot?\nAnswer: \n{text}"] for text in choices["text"]]
    assert (sample.id, sample.target) == ("x1", 1)


def test_arc_c_ppl_leaves_out_questions_without_four_choices() -> None:
    found: list[Problem] = []
    settings = DatasetConfig.model_validate(read_yaml(ROOT / "config/datasets/ARC_c_ppl.yaml", "d.yaml", found))
    rows = [
        {"id": n, "question": "?", "choices": {"text": list("abcde"[:n]), "label": list("12345"[:n])}, "answerKey": "3"}
        for n in (3, 4, 5)
    ]
    assert [(sample.id, sample.target) for sample in rendered(settings, rows, "d.yaml")] == [("4", 2)]


def test_piqa_ppl() -> None:
    sample = of_repository("piqa_ppl", {"goal": "Boil water.", "sol1": "Heat it.", "sol2": "Freeze it.", "label": 0})
    start = "The following makes sense: \nQ: Boil water.\nA: "
    assert pairs(sample) == [["", f"{start}Heat it.\n"], ["", f"{start}Freeze it.\n"]]
    assert sample.target == 0


@pytest.mark.parametrize("answer", [True, False])
def test_boolq_ppl(answer: bool) -> None:
    sample = of_repository("boolq_ppl", {"passage": "Ice is cold.", "question": "is ice cold", "answer": answer})
    start = "Ice is cold.\nQuestion: is ice cold?\n"
    assert pairs(sample) == [["", f"{start}No"], ["", f"{start}Yes"]]
    assert sample.target == int(answer)


def test_a_row_without_an_answer_is_an_error() -> None:
    settings = dataset_settings(target="answer")
    (problem,) = problems(rendered, settings, [{"question": "1 + 1?", "answer": None}], "x.yaml")
    assert problem.what == "row 0: the row has no target: column answer is null"


def test_a_template_that_takes_all_memory_is_stopped_at_its_first_row() -> None:
    settings = dataset_settings(prompt="{{ 'a' * 10 ** 10 }}")
    (problem,) = problems(rendered, settings, [{"question": "q", "answer": "a"}] * 3, "x.yaml")
    assert (problem.key, problem.what) == ("prompt", "row 0: it took too much memory")


def test_a_template_that_takes_for_ever_is_stopped_at_its_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("shardmark.tasks.render"), "bounded_steps", lambda: bounded_steps(seconds=0.2))
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    settings = dataset_settings(prompt=loops)
    (problem,) = problems(rendered, settings, [{"question": "q", "answer": "a"}] * 3, "x.yaml")
    assert (problem.key, problem.what) == ("prompt", "row 0: it took longer than 0.2 s")


def test_a_power_that_nothing_could_stop_is_refused() -> None:
    settings = dataset_settings(prompt="{{ 10 ** (10 ** 9) }}")
    (problem,) = problems(rendered, settings, [{"question": "q", "answer": "a"}], "x.yaml")
    assert "is more than 100" in problem.what


def test_bounds_end_with_the_data_set() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    rendered(dataset_settings(), [{"question": "q", "answer": "a"}], "x.yaml")
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)) == before


def test_several_choices_may_be_right() -> None:
    (sample,) = rendered(choice_settings(), [OPTIONS[0] | {"label": [0, 1]}], "d.yaml")
    assert sample.target == [0, 1]
    assert told(choice_settings(), [OPTIONS[0] | {"label": [0, 9]}]).what.endswith("label 9 is outside the 2 choices")
    assert told(choice_settings(), [OPTIONS[0] | {"label": [0, "B"]}]).what.endswith("right choice, found 'B'")
    assert told(choice_settings(), [OPTIONS[0] | {"label": []}]).what == "row 0: no choice is right"


def test_a_column_that_clusters_rows_must_be_there() -> None:
    problem = told(choice_settings(cluster_by="passag"), [OPTIONS[0] | {"passage": "x"}])
    assert (problem.key, problem.fix) == ("cluster_by", "did you mean 'passage'?")


@pytest.mark.parametrize("where", ["filters", "chains"])
def test_a_template_among_the_filters_is_tried_before_anything_is_asked(where: str) -> None:
    def settings(template: str) -> DatasetConfig:
        filters = ["strip", {"name": "template", "template": template}]
        return dataset_settings(**{where: filters if where == "filters" else {"a": filters}})

    rows = [{"question": "q", "answer": "a", "prompt": "p"}]
    assert list(rendered(settings("{{ prompt }}{{ answer }}"), rows, "d.yaml"))
    assert told(settings("{{ promt }}"), rows).what == "row 0: no column 'promt'"
    assert told(settings("{{"), rows).key == {"filters": "filters.1.template", "chains": "chains.a.1.template"}[where]


# Likelihoods, and chats


def test_a_loglikelihood_is_that_of_one_continuation() -> None:
    settings = dataset_settings(
        kind="loglikelihood",
        prompt="{{ text.rsplit(' ', 1)[0] }}",
        target="text.rsplit(' ', 1)[1]",
        metrics=["accuracy"],
    )
    (sample,) = rendered(settings, [{"text": "the sky is blue"}], "d.yaml")
    assert sample.request == choice(("the sky is", " blue"))
    assert (sample.target, sample.choices) == (0, ["blue"])


def test_a_rolling_text_is_asked_whole() -> None:
    settings = dataset_settings().model_copy(update={"kind": "rolling", "prompt": "{{ text }}", "target": None})
    (sample,) = rendered(settings, [{"text": "a long text"}], "d.yaml")
    assert sample.request == rolling("a long text")
    assert (sample.target, sample.choices, characters(sample.request)) == (0, ["a long text"], 11)
    problem = told(settings, [{"text": ""}])
    assert (problem.key, problem.what) == ("prompt", "row 0: the text is empty")


SYSTEM, USER = {"role": "system", "content": "Count, {{ name }}."}, {"role": "user", "content": "{{ q }}"}
COLUMNS = {"name": "Ada", "q": "1+1?", "answer": "2", "options": ["2", "3"], "label": 0}


def chat(**changes: Any) -> DatasetConfig:
    return dataset_settings(prompt=None, messages=[SYSTEM, USER], **changes)


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_chat_stays_messages_and_examples_are_turns_of_it() -> None:
    shots = {"examples": [{"q": "0+1?", "answer": "1"}]}
    (sample,) = rendered(chat(few_shot=shots), [COLUMNS], "d.yaml")
    turns = [("user", "0+1?"), ("assistant", "1")]
    assert sample.request == asked.chat(("system", "Count, Ada."), *turns, ("user", "1+1?"), new=256)


def test_an_answer_that_the_assistant_has_begun_is_completed_in_examples() -> None:
    messages = [USER, said("assistant", "The answer is")]
    settings = dataset_settings(
        prompt=None,
        messages=messages,
        few_shot={"examples": [{"q": "0+1?", "answer": "1"}], "answer": " {{ answer }}."},
    )
    request: Any = rendered(settings, [COLUMNS], "d.yaml")[0].request
    assert [message.content for message in request.messages] == [
        "0+1?", "The answer is 1.", "1+1?", "The answer is",
    ]  # fmt: skip


def test_choices_answer_a_chat() -> None:
    settings = choice_settings(prompt=None, messages=[USER])
    (sample,) = rendered(settings, [COLUMNS], "d.yaml")
    assert pairs(sample) == [[asked.said(("user", "1+1?")), choice] for choice in ("2", "3")]


def test_with_perplexity_each_choice_is_a_whole_chat() -> None:
    messages = [USER, said("assistant", "It is {{ choice }}.")]
    settings = choice_settings(prompt=None, messages=messages, scoring="perplexity")
    (sample,) = rendered(settings, [COLUMNS], "d.yaml")
    assert pairs(sample)[1] == ["", asked.said(("user", "1+1?"), ("assistant", "It is 3."))]


def test_a_message_that_cannot_be_rendered_is_named() -> None:
    problem = told(chat(), [{"q": "1+1?", "answer": "2", "nam": "x"}])
    assert (problem.key, problem.what, problem.fix) == (
        "messages.0.content", "row 0: no column 'name'", "did you mean 'nam'?",
    )  # fmt: skip


def test_prompt_and_target_that_fail_on_one_row_are_both_told() -> None:
    found = problems(rendered, dataset_settings(prompt="{{ questoin }}", target="answr"), QUESTIONS, "d.yaml")
    assert {problem.key for problem in found} == {"prompt", "target"}


@pytest.mark.parametrize(("options", "refused"), [(["a", "a"], True), (["b", "a", "a"], False)])
def test_a_right_choice_that_stands_twice_is_refused_unless_it_is_kept(options: list[str], refused: bool) -> None:
    rows = [{"q": "?", "options": options, "label": 0}]
    if refused:
        problem = told(choice_settings(), rows)
        assert (problem.key, problem.what) == ("choices", "row 0: the right choice 'a' occurs twice among the choices")
    kept = choice_settings(duplicate_choices="keep") if refused else choice_settings()
    assert rendered(kept, rows, "d.yaml")[0].choices == options


def test_a_choice_that_is_right_twice_counts_once() -> None:
    (sample,) = rendered(choice_settings(target="[1, 0, 1]"), OPTIONS, "d.yaml")
    assert sample.target == [1, 0]


def test_a_single_choice_is_refused() -> None:
    problem = told(choice_settings(), [{"q": "Sky?", "options": ["blue"], "label": 0}])
    assert problem.what == "row 0: there is only one choice, 'blue', so the answer would always be right"


def test_an_empty_choice_may_be_part_of_a_text() -> None:
    rows = [{"q": "It is", "options": ["", " not"], "label": 0}]
    (sample,) = render(choice_settings(continuation="{{ choice }} so."), rows, "d.yaml")
    assert sample.request == choice(("It is", " so."), ("It is", " not so."))


@pytest.mark.parametrize(("kind", "key"), [("choice", "choices"), ("loglikelihood", "target")])
def test_a_continuation_without_text_is_refused(kind: str, key: str) -> None:
    rows = [{"q": "Sky?", "options": ["blue", ""], "label": 0}]
    if kind == "choice":
        problem = told(choice_settings(), rows)
    else:
        settings = {"kind": kind, "target": "options[1]", "metrics": ["accuracy"], "continuation": "{{ target }}"}
        problem = told(dataset_settings(prompt="{{ q }}", **settings), rows)
    assert (problem.key, problem.what.partition(":")[0]) == (key, "row 0")
    assert "nothing to score" in problem.what


@pytest.mark.parametrize(("template", "near"), [("{{ answer | uper }}", "'upper'"), ("{{ answer is od }}", "'odd'")])
def test_a_filter_that_jinja_has_not_is_told_with_the_nearest(template: str, near: str) -> None:
    problem = told(dataset_settings(prompt=template), QUESTIONS)
    assert (problem.key, problem.fix.partition(" or ")[0].strip("?")) == ("prompt", f"did you mean {near}")


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("answer", "metric ifeval needs instructions with their arguments, in JSON"),
        ("{'ids': ['punctuation:no_comma'], 'kwargs': [], 'prompt': ''} | tojson", "metric ifeval needs instructions"),
        (
            "{'ids': ['punctuation:no_coma'], 'kwargs': [{}], 'prompt': ''} | tojson",
            "metric ifeval does not know the instruction 'punctuation:no_coma'",
        ),
        (
            "{'ids': ['keywords:frequency'], 'kwargs': [{'keyword': 'x', 'frequency': none}], 'prompt': ''} | tojson",
            "instruction 'keywords:frequency' needs frequency",
        ),
        ("{'ids': ['punctuation:no_comma'], 'kwargs': [{}], 'prompt': ''} | tojson", None),
    ],
)
def test_a_target_that_ifeval_cannot_read_is_refused(target: str, what: str | None) -> None:
    settings = dataset_settings(target=target, metrics=["ifeval"])
    if what is None:
        assert len(rendered(settings, QUESTIONS, "d.yaml")) == 3
    else:
        problem = told(settings, QUESTIONS)
        assert (problem.key, what in problem.what) == ("target", True)


def test_tests_that_are_no_python_are_refused() -> None:
    problem = told(dataset_settings(target="'assert f( == 1'", metrics=["pass_at_k"]), QUESTIONS)
    assert (problem.key, "not Python" in problem.what) == ("target", True)
    assert rendered(dataset_settings(target="['import re', 'assert f(1)']", metrics=["pass_at_k"]), QUESTIONS, "d.yaml")


@pytest.mark.parametrize(
    ("metric", "target", "refused"),
    [
        ({"name": "rouge"}, "'東京は1年'", True),
        ({"name": "rouge"}, "'naïve café'", False),
        ({"name": "rouge"}, "'...'", False),
        ({"name": "string_match"}, "[answer, '']", True),
        ({"name": "mcc"}, "[answer, 'x']", True),
        ({"name": "f1", "average": "macro"}, "[answer, 'x']", True),
        ({"name": "f1"}, "[answer, 'x']", False),
    ],
)
def test_a_target_that_its_metric_cannot_judge_is_refused(metric: Any, target: str, refused: bool) -> None:
    settings = dataset_settings(target=target, metrics=[metric])
    if refused:
        assert told(settings, QUESTIONS).key == "target"
    else:
        assert len(rendered(settings, QUESTIONS, "d.yaml")) == 3


def test_of_several_right_choices_a_metric_that_takes_one_is_refused() -> None:
    settings = choice_settings(target="[0, 1]", metrics=["perplexity"])
    assert told(settings, OPTIONS).key == "target"
    assert rendered(choice_settings(target="[0, 1]", metrics=["mc2"]), OPTIONS, "d.yaml")


@pytest.mark.parametrize("value", ["{'x': answer}", "[[answer]]", "[none]"])
def test_a_target_or_choice_that_is_no_text_is_refused(value: str) -> None:
    assert told(dataset_settings(target=value), QUESTIONS).key == "target"
    if value != "{'x': answer}":
        assert told(choice_settings(choices=value.replace("answer", "q")), OPTIONS).key == "choices"


@pytest.mark.parametrize("words", [{"prompt": "{{ q }} {{ choice }}"}, {"prompt": None}])
def test_similar_examples_are_found_by_the_prompt_without_a_choice(words: dict[str, Any]) -> None:
    if words["prompt"] is None:
        words = words | {"messages": [{"role": "user", "content": "{{ q }} {{ choice }}"}]}
    rows = [{"q": q, "options": ["yes", "no"], "label": 0} for q in ("old cat", "new dog", "old dog", "big tree")]
    settings = choice_settings(scoring="perplexity", few_shot={"pick": "bm25", "count": 1}, **words)
    first = rendered(settings, rows, "d.yaml")[3].request.pairs[0][1]
    assert "big tree" in str(first)
    second = rendered(settings, rows, "d.yaml")[2].request.pairs[1][1]
    assert "old cat yes" in str(second) or "new dog yes" in str(second)
