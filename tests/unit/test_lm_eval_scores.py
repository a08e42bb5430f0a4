"""Scores of lm-eval's tasks, worked out by hand. Beside lm-eval itself they are in an integration test."""

import math
from pathlib import Path
from typing import Any

import pytest

import asked as asked_for
from answered import scored, wrote
from lm_eval_compare import lm_eval_header
from requirements_check import need
from shardmark.errors import UserError
from shardmark.records.base import to_json
from shardmark.records.dataset import TaskLine
from shardmark.records.prediction import Generated, Prediction, Scored
from shardmark.records.sample import read_sample, sample_line
from shardmark.scoring import lm_eval
from shardmark.scoring.lm_eval import aggregations, filters
from shardmark.scoring.lm_eval.evaluate_metrics import METRICS
from shardmark.tasks.lm_eval import judging
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.tasks.lm_eval.wanted import Wanted, wanted
from shardmark.texts.words import word_f1
from shardmark.untrusted.sandbox import require_sandbox

JUDGED = {"output_type": "multiple_choice", "metric_list": None, "filter_list": None}
ROLLING = "loglikelihood_rolling"
JUDGED |= {"process_results": None, "repeats": 1}


def metrics(
    lines: list[dict[str, Any]],
    predictions: list[Prediction],
    groups: Any = (),
    tasks: Any = None,
    root: Path = Path(),
    **settings: Any,
) -> tuple[list[Any], Any]:
    about = {"tasks": tasks or {"t": JUDGED | settings}, "groups": list(groups)}
    header = lm_eval_header("d", root, {"lm_eval": about})
    made = [TaskLine(**({"sample": str(n), "request": str(n), "row": {}} | line)) for n, line in enumerate(lines)]
    asked: dict[str, Any] = {}
    for line, prediction in zip(made, predictions, strict=True):
        pairs = [("c", choice) for choice in line.choices or ["x"]]
        kind = asked_for.generate("p") if isinstance(prediction, Generated) else asked_for.choice(*pairs)
        kind = asked_for.rolling(line.target) if settings.get("output_type") == ROLLING else kind
        asked[line.request] = kind
    return lm_eval.judge(made, asked, dict(zip(asked, predictions, strict=True)), header)


def choice(*logprobs: float, greedy: int = -1) -> Scored:
    return scored("", *logprobs, greedy=greedy)


def text(value: str) -> Generated:
    return wrote("", value, end="stop")


def test_acc_and_acc_norm_differ_by_the_length_of_choices() -> None:
    line = {"target": 1, "choices": ["ab", "abcdefgh"]}
    samples, found = metrics([line, line], [choice(-2.0, -4.0), choice(-1.0, -9.0)])
    assert [sample.scores for sample in samples] == [{"acc": 0.0, "acc_norm": 1.0}, {"acc": 0.0, "acc_norm": 0.0}]
    assert (found["acc"].value, found["acc_norm"].value, found["acc_norm"].stderr) == (0.0, 0.5, 0.5)


def test_a_gold_that_is_no_choice_is_wrong_and_any_of_several_is_right() -> None:
    lines = [{"target": 7, "choices": ["a", "b"]}, {"target": "b", "choices": ["a", "b"]}]
    lines.append({"target": [0, 1], "choices": ["a", "b"], "lm_eval": {"several": True}})
    samples, _ = metrics(lines, [choice(-1, -2), choice(-2, -1), choice(-2, -1)])
    assert [sample.scores["acc"] for sample in samples] == [0, 1, 1]


def test_mutual_information_subtracts_what_a_choice_has_without_its_context() -> None:
    line = {"target": 1, "choices": ["a", "b"]}
    prediction = choice(-1.0, -2.0, -1.0, -5.0)
    _, found = metrics([line], [prediction], metric_list=[{"metric": "acc"}, {"metric": "acc_mutual_info"}])
    assert (found["acc"].value, found["acc_mutual_info"].value) == (0, 1)


def test_each_chain_of_filters_has_a_score() -> None:
    strict = {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "#### (\\d+)"}]}
    loose = {"name": "loose", "filter": [{"function": "regex", "regex_pattern": "(\\d+)", "group_select": -1}]}
    for chain in (strict, loose):
        chain["filter"].append({"function": "take_first"})  # type: ignore[attr-defined]
    metric = {"metric": "exact_match", "ignore_case": True}
    settings = {"output_type": "generate_until", "filter_list": [strict, loose], "metric_list": [metric]}
    lines = [{"target": "12"}, {"target": "12"}]
    samples, found = metrics(lines, [text("#### 12"), text("1 and 12")], **settings)
    assert {name: value.value for name, value in found.items()} == {
        "exact_match,strict": 0.5,
        "exact_match,loose": 1.0,
    }
    assert [sample.answer for sample in samples] == ["12", "[invalid]"]
    assert [sample.steps for sample in samples] == [
        {"strict": {"1": ["12"]}, "loose": {"1": ["12"]}},
        {"strict": {"1": ["[invalid]"]}, "loose": {"1": ["12"]}},
    ]


def test_what_a_filter_of_the_tasks_own_gives_is_told_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def found(texts, docs):\n    return [[{'of': each[0]}, {1}, None] for each in texts]\n"
        "def judge(doc, results):\n    return {'x': 1}\n"
    )
    own = {"function": "custom", "filter_fn": {"!function": "own.found", "in": "."}}
    chains = [{"name": "none", "filter": [{"function": "take_first"}]}, {"name": "own", "filter": [own]}]
    settings = {"process_results": {"!function": "own.judge", "in": "."}, "filter_list": chains}
    samples, _ = metrics([{"target": ""}], [text("ä")], root=tmp_path, output_type="generate_until", **settings)
    assert samples[0].steps == {"none": {}, "own": {"1": ['{"of": "ä"}', '"set"', None]}}


def test_the_report_reads_all_that_a_sample_says() -> None:
    """A key that the writer and the reader spell differently would only leave a cell of the report empty."""
    line = {"target": "12", "row": {"q": 1}, "group": "t", "sample": "s", "request": "r"}
    answer = wrote("r", "11", end="length", cut=3)
    written, _ = metrics([line], [answer], output_type="generate_until", metric_list=[{"metric": "exact_match"}])
    (read,) = (read_sample(sample_line(sample)) for sample in written)
    assert to_json(read) == {
        "sample": "s",
        "request": "r",
        "prompt": "p",
        "output": "11",
        "answer": "11",
        "steps": {"none": {}},
        "target": "12",
        "scores": {"exact_match": 0.0},
        "truncated": 3,
        "end": "length",
        "row": {"q": 1},
        "group": "t",
    }


def test_perplexity_is_that_of_the_mean() -> None:
    _, found = metrics([{"target": "x"}] * 2, [choice(-1.0, greedy=0), choice(-3.0)], output_type="loglikelihood")
    assert found["acc"].value == 0.5
    assert found["perplexity"].value == pytest.approx(math.exp(2))
    assert found["perplexity"].ci95 == (pytest.approx(math.exp(1)), pytest.approx(math.exp(3)))
    spread = math.sqrt((math.exp(1) ** 2 + 2 * math.exp(2) ** 2 + math.exp(3) ** 2) / 4 - _mean_of_draws() ** 2)
    assert found["perplexity"].stderr == pytest.approx(spread, rel=0.01)
    assert not found["perplexity"].higher_is_better


def _mean_of_draws() -> float:
    """Of two values one draw in four has the first twice, one in four the second, and two have both."""
    return (math.exp(1) + 2 * math.exp(2) + math.exp(3)) / 4


def test_a_tasks_own_function_judges_and_its_aggregation_sums_up(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text(
        "def judge(doc, results):\n    return {'long': len(results[0])}\ndef most(values):\n    return max(values)\n"
    )
    own = {"!function": "utils.judge", "in": "."}
    metric = {"metric": "long", "aggregation": {"!function": "utils.most", "in": "."}}
    settings = {"output_type": "generate_until", "process_results": own, "metric_list": [metric]}
    _, found = metrics([{"target": ""}] * 2, [text("four"), text("seventeen")], root=tmp_path, **settings)
    assert (found["long"].value, found["long"].stderr) == (9.0, None)


def test_a_fraction_that_not_every_sample_has_is_a_fraction(tmp_path: Path) -> None:
    code = "def judge(doc, results):\n    return {'share': float(results[0])}\n"
    (tmp_path / "utils.py").write_text(code)
    metric = {"metric": "share", "aggregation": "nanmean"}
    settings = {"output_type": "generate_until", "process_results": {"!function": "utils.judge", "in": "."}}
    lines = [{"target": ""}] * 2
    _, found = metrics(lines, [text("nan"), text("0.5")], root=tmp_path, metric_list=[metric], **settings)
    assert (found["share"].value, found["share"].percent) == (0.5, True)


def test_a_whole_text_is_scored_per_word_and_per_byte() -> None:
    lines = [{"target": "one two"}, {"target": "dr\u00e9i"}]
    samples, found = metrics(lines, [choice(-4.0), choice(-8.0)], output_type=ROLLING)
    assert {name: metric.value for name, metric in found.items()} == {
        "word_perplexity": pytest.approx(math.exp(12 / 3)),
        "byte_perplexity": pytest.approx(math.exp(12 / 12)),
        "bits_per_byte": pytest.approx(12 / 12 / math.log(2)),
    }
    assert {(metric.stderr, metric.higher_is_better) for metric in found.values()} == {(None, False)}
    assert [sample.output for sample in samples] == ["one two", "dr\u00e9i"]


def test_labels_are_counted_over_all_samples() -> None:
    wanted = [{"metric": name} for name in ("f1", "mcc", "brier_score")]
    right_and_found = [(1, 1), (1, 1), (1, 0), (0, 1), (0, 0)]
    lines = [{"target": right, "choices": ["a", "b"]} for right, _ in right_and_found]
    predictions = [choice(0.0, -1e9) if found == 0 else choice(-1e9, 0.0) for _, found in right_and_found]
    _, found = metrics(lines, predictions, metric_list=wanted)
    assert found["f1"].value == pytest.approx(2 / 3)
    assert found["mcc"].value == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))
    assert (found["brier_score"].value, found["brier_score"].stderr) == (pytest.approx(2 * 2 / 5), None)
    assert [found[name].higher_is_better for name in ("f1", "mcc", "brier_score")] == [True, True, False]


def test_f1_of_other_labels_than_0_and_1_is_refused() -> None:
    lines = [{"target": 2, "choices": ["a", "b", "c"]}] * 2
    with pytest.raises(UserError, match="f1 needs labels 0 and 1"):
        metrics(lines, [choice(-1, -2, -3)] * 2, metric_list=[{"metric": "f1"}])


def test_translations_are_scored_in_sacrebleus_unit() -> None:
    wanted = [{"metric": name} for name in ("bleu", "chrf", "chrf++", "ter")]
    settings = {"output_type": "generate_until", "metric_list": wanted}
    text_ = "the cat sat on the mat"
    _, found = metrics([{"target": text_}] * 2, [text(text_)] * 2, **settings)
    values = {name: metric.value for name, metric in found.items()}
    assert values == pytest.approx({"bleu": 100.0, "chrf": 100.0, "chrf++": 100.0, "ter": 0.0})
    assert (found["bleu"].interval, found["bleu"].percent) == ("bootstrap", False)


def test_what_is_ignored_in_an_exact_match() -> None:
    equal = METRICS["exact_match"].compute
    assert equal(predictions=["It's 12."], references=["its 7"])["exact_match"] == 0
    slack = {"ignore_case": True, "ignore_punctuation": True, "ignore_numbers": True}
    assert equal(predictions=["It's 12."], references=["its 7"], **slack)["exact_match"] == 1
    assert equal(predictions=["a, b"], references=["b"], regexes_to_ignore=["^a", "[, ]"])["exact_match"] == 1


def test_a_function_may_give_several_values_or_hand_on_what_its_aggregation_reads(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def sizes(references, predictions):\n    return {'a': len(predictions[0]), 'b': len(references[0])}\n"
        "def pair(items):\n    return items\n"
        "def exact_match(references, predictions):\n    return 0.25\n"
        "def equal(items):\n    return sum(a == b for a, b in items) / len(items)\n"
    )
    names = ("sizes", "pair", "equal", "exact_match")
    sizes, pair, equal, match = ({"!function": f"own.{name}", "in": "."} for name in names)
    wanted = [{"metric": sizes, "aggregation": "mean"}, {"metric": pair, "aggregation": equal}]
    wanted.append({"metric": match, "aggregation": "mean"})
    settings = {"output_type": "generate_until", "metric_list": wanted}
    _, found = metrics([{"target": "xy"}] * 2, [text("xy"), text("four")], root=tmp_path, **settings)
    expected = {"a": 3.0, "b": 2.0, "pair": 0.5, "exact_match": 0.25}
    assert {name: metric.value for name, metric in found.items()} == expected


PROGRAMS = """
import evaluate
code = evaluate.load("code_eval")
code.compute(references=["assert f() == 1"], predictions=[["def f(): return 2"]], k=[1])
def passed(references, predictions):
    return code.compute(references=references, predictions=[predictions], k=[1])[0]
"""


def passed(folder: Path) -> Any:
    (folder / "own.py").write_text(PROGRAMS)
    wanted = [{"metric": {"!function": "own.passed", "in": "."}, "aggregation": "mean"}]
    settings = {"output_type": "generate_until", "metric_list": wanted}
    programs = [text("def f(): return 3"), text("import sys\nsys.exit(0)")]
    return metrics([{"target": "assert f() == 3"}] * 2, programs, root=folder, **settings)[1]


def test_generated_programs_run_in_the_sandbox(tmp_path: Path) -> None:
    need("bwrap")
    assert passed(tmp_path)["pass@1"].value == 0.5


def test_without_a_sandbox_no_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_sandbox.cache_clear()
    monkeypatch.setattr("shardmark.untrusted.sandbox.shutil.which", lambda name: None)
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        passed(tmp_path)


def test_metrics_of_evaluate_that_a_function_wants_are_read_from_its_source(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import evaluate as hf\nfrom evaluate import load\nimport json\nhf.load('rouge')\njson.load('no')\n"
        "def score(items):\n    return helper(items)\n"
        "def helper(items):\n    import absent\n    return load('bertscore')\n"
        "def other(items):\n    return hf.load('bleurt')\n"
    )
    assert wanted([Function(tmp_path, "own.score")]) == Wanted({"rouge", "bertscore"}, {"absent"})
    keys = {"output_type": "generate_until", "process_results": Function(tmp_path, "own.score")}
    (problem,) = judging.missing(TaskSettings(**{"task": "t"} | keys), "t.yaml")
    assert "uses the metric bertscore of evaluate" in problem.what


def test_squads_scores_are_there_though_transformers_has_dropped_them(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import transformers.data.metrics.squad_metrics as squad\n"
        "def judge(doc, results):\n"
        "    exact = squad.compute_exact('A  Cat!', results[0])\n"
        "    return {'f1': squad.compute_f1('the red cat', results[0]), 'em': exact}\n"
    )
    wanted_ = [{"metric": "em", "aggregation": "mean"}, {"metric": "f1", "aggregation": "mean"}]
    settings = {"output_type": "generate_until", "process_results": {"!function": "own.judge", "in": "."}}
    answers = ["the cat", "Red cat.", "", "a dog"]
    lines = [{"target": ""}] * len(answers)
    samples, _ = metrics(lines, list(map(text, answers)), root=tmp_path, metric_list=wanted_, **settings)
    expected = [word_f1(answer, "the red cat") for answer in answers]
    assert [sample.scores["f1"] for sample in samples] == pytest.approx(expected)
    assert [sample.scores["em"] for sample in samples] == [1, 0, 0, 0]


def test_tags_and_spans_are_taken_from_answers() -> None:
    tagged = ["[('It', 'PRON'), ('ran', 'VERB')]", "nothing"]
    assert filters.regex_pos([tagged], [{}]) == [[["PRON", "VERB"], ["invalid"]]]
    spans = filters.format_span([["Person: Ada $$ places: none, Rome\ndate: 1843"]], [{}])
    assert spans == [["per: ada $ loc: rome $ date: 1843"]]


@pytest.mark.parametrize(("by_size", "value"), [(True, 0.75), (False, 5 / 6)])
def test_a_group_weighs_its_tasks(by_size: bool, value: float) -> None:
    group = {"name": "g", "tasks": ["a", "b"], "aggregates": [{"metric": "acc", "weight_by_size": by_size}]}
    lines = [{"target": 0, "choices": ["x", "y"], "group": name} for name in "aab" + "b" * 5]
    good = [True, True, False, True, True, False, True, True]
    tasks = dict.fromkeys("ab", JUDGED)
    samples, found = metrics(lines, [choice(-1, -2) if g else choice(-2, -1) for g in good], [group], tasks)
    assert found["acc"].value == pytest.approx(value)
    errors = {"a": 0.0, "b": math.sqrt((4 * (1 / 3) ** 2 + 2 * (2 / 3) ** 2) / 5 / 6)}
    pooled = math.sqrt(5 * errors["b"] ** 2 * 6 / 6 / 8)
    assert found["acc"].stderr == pytest.approx(pooled if by_size else errors["b"] / 2)
    assert [sample.group for sample in samples] == list("aabbbbbb")
    assert list(found) == ["acc", "acc (a)", "acc_norm (a)", "acc (b)", "acc_norm (b)"]
    assert (found["acc (b)"].stderr, found["acc (b)"].n) == (pytest.approx(errors["b"]), 6)


def test_a_group_whose_answers_are_all_right_is_not_certain() -> None:
    group = {"name": "g", "tasks": ["a", "b"], "aggregates": [{"metric": "acc"}]}
    lines = [{"target": 0, "choices": ["x", "y"], "group": name} for name in "aabb"]
    _, found = metrics(lines, [choice(-1, -2)] * 4, [group], dict.fromkeys("ab", JUDGED))
    low, high = found["acc"].ci95 or (1.0, 1.0)
    assert (found["acc"].stderr, high) == (0.0, 1.0)
    assert low == pytest.approx(1 - math.sqrt(0.5) * (1 - 2 / (2 + 1.959964**2)))  # of two of Wilson's intervals


def test_every_filter_and_aggregation_that_a_plan_allows_is_there() -> None:
    assert filters.FILTERS.keys() == judging.FILTERS
    assert aggregations.AGGREGATIONS.keys() == judging.AGGREGATIONS


def test_a_plan_refuses_what_is_not_scored_and_names_the_nearest() -> None:
    def of(**keys: Any) -> list[Any]:
        return judging.missing(TaskSettings(**{"task": "t", "output_type": "multiple_choice"} | keys), "t.yaml")

    assert "'acc_nrm'" in of(metric_list=[{"metric": "acc_nrm"}])[0].what
    assert "'acc_norm'" in of(metric_list=[{"metric": "acc_nrm"}])[0].fix
    assert "'bleuu'" in of(metric_list=[{"metric": "acc", "aggregation": "bleuu"}])[0].what
    assert of(metric_list=[{"metric": "f1", "aggregation": "mean"}])[0].fix == "aggregation: f1"
    assert "no filter 'rgx'" in of(filter_list=[{"name": "n", "filter": [{"function": "rgx"}]}])[0].what
    several = TaskSettings(task="t", metric_list=[{"metric": "exact_match"}, {"metric": "bleu"}])
    assert judging.unfit_for_several(several) == ["bleu"]
    assert "sandbox" in of(unsafe_code=True)[0].what
    assert not of()


def test_multiple_choice_answers_are_found_by_pattern_by_choice_or_by_letter() -> None:
    docs = [{"choices": ["red wine", "red"]}] * 4
    answers = [["it is (B)"], ["Red Wine."], ["so: A"], ["nothing"]]
    options = {"regex_pattern": r"(\([A-Z]\))", "ignore_case": True}
    found = filters.multi_choice_regex(answers, docs, **options)
    assert found == [["(B)"], ["(A)"], ["(A)"], ["[invalid]"]]
    emptied = filters.multi_choice_regex([["dunno"]], [{"choices": ["a", "red"]}], r"\d", regexes_to_ignore=["a"])
    assert emptied == [["[invalid]"]]
