"""A finished run in the formats of others, read back by their own code where there is any."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from jsonschema import Draft7Validator
from msgspec.structs import replace

from asked import chat
from finished_runs import CHOICE, finished_run
from projects import problems
from requirements_check import need
from shardmark import layout
from shardmark.export import every_eval, lm_eval, parquet
from shardmark.export.finished import Asked, asked_of, read_finished
from shardmark.export.hub import export_hub
from shardmark.export.names import MetricName, metric_names
from shardmark.export.registry import FORMATS, export
from shardmark.files import read_json, read_jsonl, read_sealed, sealed
from shardmark.records.score import Scores
from shardmark.report.pair import Pair
from shardmark.report.results import Results
from workflow import ROOT

READ_BY_LM_EVAL = """
import json, sys
from pathlib import Path
from lm_eval.utils import get_file_task_name, get_latest_filename, get_results_filenames
from lm_eval.utils import get_sample_results_filenames, make_table

files = [str(path) for path in Path(sys.argv[1]).rglob("*.json*") if "good" in str(path)]
(results,) = get_results_filenames(files)
found = json.loads(Path(results).read_text())
samples = {get_file_task_name(Path(f).name): f for f in get_sample_results_filenames(files)}
latest = get_latest_filename(list(samples.values()))
counts = {task: len(Path(f).read_text().splitlines()) for task, f in samples.items()}
print(json.dumps({"table": make_table(found), "counts": counts, "latest": latest}))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exported(report: Path) -> Path:
    out = report.parent.parent / "exports"
    export(report, list(FORMATS), out)
    return out


def scores_of(report: Path, model: str, dataset: str) -> Scores:
    return read_finished(report).scored.pairs[model, dataset].scores


def results_of(exported: Path, model: str) -> Any:
    (file,) = (exported / "lm-eval" / model).glob("results_*.json")
    return read_json(file)


def samples_of(exported: Path, model: str, task: str) -> list[Any]:
    (file,) = (exported / "lm-eval" / model).glob(f"samples_{task}_*.jsonl")
    return list(read_jsonl(file))


def test_lm_evals_names_are_those_of_metrics_with_its_definitions(report: Path) -> None:
    names = metric_names(scores_of(report, "good", "colours"))
    assert {label: name.key for label, name in names.items()} == {
        "accuracy": "acc,none",
        "by_length": "acc_norm,none",
        "brier": "brier_score,none",
    }
    sums = {label: name.key for label, name in metric_names(scores_of(report, "good", "sums")).items()}
    assert sums["exact_match,strict"] == "exact_match,strict"
    assert sums["exact_match,loose (macro)"] == "exact_match_macro,loose"


@pytest.mark.parametrize(
    ("metric", "settings", "key", "scale"),
    [
        ({"name": "f1"}, {}, "shardmark_f1,none", 1),
        ({"name": "f1", "average": "binary", "positive": "1"}, {}, "f1,none", 1),
        ({"name": "bleu", "tokenize": "13a"}, {}, "bleu,none", 100),
        ({"name": "bleu", "tokenize": "zh"}, {}, "shardmark_bleu,none", 1),
        ({"name": "chrf", "word_order": 2}, {}, "chrf++,none", 100),
        ({"name": "exact_match", "tolerance": 0.0}, {}, "shardmark_exact_match,none", 1),
        ({"name": "exact_match", "label": "acc"}, {}, "exact_match,none", 1),
        ({"name": "rouge", "label": "acc"}, {}, "shardmark_acc,none", 1),
        ({"name": "accuracy"}, {"scoring": "token"}, "accuracy,none", 1),
        ({"name": "accuracy"}, {"scoring": "byte"}, "acc_bytes,none", 1),
        ({"name": "accuracy"}, {"circular": {"options": "o"}}, "accuracy,none", 1),
    ],
)
def test_what_is_defined_otherwise_keeps_a_name_of_its_own(
    report: Path, metric: dict[str, Any], settings: dict[str, Any], key: str, scale: float
) -> None:
    scores = scores_of(report, "good", "colours")
    label = metric.get("label", metric["name"])
    config = scores.provenance.config | {"dataset": {"metrics": [metric], "scoring": "sum"} | settings}
    changed = replace(
        scores, primary=label, metrics={label: scores.main}, provenance=replace(scores.provenance, config=config)
    )
    name = metric_names(changed)[label]
    assert (name.key, name.scale) == (key, scale)


def test_metrics_of_a_group_of_lm_evals_tasks_belong_to_the_tasks(report: Path) -> None:
    scores = scores_of(report, "good", "colours")
    judging = {"tasks": {"arc_easy": {}, "arc_challenge": {}}, "groups": [{"name": "arc"}]}
    provenance = replace(
        scores.provenance, rows={"lm_eval": {}, "files": {}, "hub": {}}, config={"dataset": {"lm_eval": judging}}
    )
    labels = ["acc", "acc (arc_easy)", "exact_match,strict (arc_challenge)"]
    for dataset, tasks in (("arc", ["arc", "arc_easy", "arc_challenge"]), ("mine", ["mine", "mine_arc_easy"])):
        info = replace(scores.dataset, name=dataset)
        changed = replace(
            scores, dataset=info, primary="acc", metrics=dict.fromkeys(labels, scores.main), provenance=provenance
        )
        names = [metric_names(changed)[label] for label in labels]
        assert [name.task for name in names][: len(tasks)] == tasks
        assert names[2][1:3] == ("exact_match", "strict")


def test_samples_of_a_group_of_lm_evals_tasks_have_scores_of_their_tasks(report: Path) -> None:
    """Also of metrics that the group does not aggregate."""
    finished = read_finished(report)
    pair = finished.scored.pairs["good", "colours"]
    judging = {"tasks": {"one": {}, "other": {}}, "groups": [{"name": "colours"}]}
    rows = {"lm_eval": {}, "files": {}, "hub": {}}
    provenance = replace(pair.scores.provenance, rows=rows, config={"dataset": {"lm_eval": judging}})
    metrics = dict.fromkeys(["acc", "acc (one)", "acc_norm (one)"], pair.scores.main)
    scored = every_eval._identified(
        Pair(replace(pair.scores, primary="acc", metrics=metrics, provenance=provenance), pair.samples, pair.timings)
    )
    asked = next(iter(asked_of(finished, pair)))
    sample = replace(asked.sample, group="one", scores={"acc": 1.0, "acc_norm": 0.0})
    found = every_eval._instances(scored, asked._replace(sample=sample))
    assert {line["evaluation_result_id"]: line["evaluation"]["score"] for line in found} == {
        "one:acc:none": 1.0,
        "one:acc_norm:none": 0.0,
    }


def test_a_chat_is_exported_as_the_text_that_was_sent(report: Path) -> None:
    finished = read_finished(report)
    pair = finished.scored.pairs["good", "sums"]
    first, request = next(iter(asked_of(finished, pair))), chat(("user", "1 + 1?"))
    sample = replace(first.sample, prompt="[user]\n1 + 1?", sent=["<s>", (7, 13), "</s>"])
    assert parquet._sample(pair, sample)["prompt"] == "<s>1 + 1?</s>"
    answers = {
        "now": replace(first.answers[0], sent=(("<s>", (0, ""), "</s>"),)),
        "by an earlier version": first.answers[0],
    }
    found = {}
    for when, answer in answers.items():
        (line, *_) = every_eval._instances(every_eval._identified(pair), Asked(sample, [request], [answer]))
        found[when] = (line["input"]["raw"], line["input"]["formatted"], lm_eval._arguments(request, answer)[0][0])
    assert found == {
        "now": ("[user]\n1 + 1?", "<s>1 + 1?</s>", "<s>1 + 1?</s>"),
        "by an earlier version": ("[user]\n1 + 1?", None, '[{"role": "user", "content": "1 + 1?"}]'),
    }


def test_lm_evals_results_have_the_numbers_of_the_scores(report: Path, exported: Path) -> None:
    found = results_of(exported, "good")
    metric = scores_of(report, "good", "colours").main
    assert found["results"]["colours"]["acc,none"] == metric.value
    assert found["results"]["colours"]["acc_stderr,none"] == metric.stderr
    assert found["higher_is_better"]["colours"] == {"acc": True, "acc_norm": True, "brier_score": False}
    assert found["n-samples"]["colours"] == {"original": 12, "effective": 12}
    assert found["n-shot"] == {"sums": 0, "colours": 0, "texts": 0}
    assert found["configs"]["sums"]["generation_kwargs"]["max_gen_toks"] == 256
    assert found["shardmark"]["run"] == "trial"


def test_lm_evals_samples_have_what_was_asked_and_answered(exported: Path) -> None:
    line = samples_of(exported, "good", "colours")[2]
    assert line["doc_id"] == 2
    assert line["arguments"]["gen_args_2"] == {"arg_0": "Q: 2?\nA:", "arg_1": " dark green"}
    assert line["target"] == "2"
    assert [len(answers) for answers in line["resps"]] == [1, 1, 1]
    logprobs = [float(pair[0]) for pair in line["filtered_resps"]]
    assert line["acc"] == float(logprobs.index(max(logprobs)) == 2)
    strict, loose = samples_of(exported, "good", "sums")[:2]
    assert (strict["filter"], loose["filter"]) == ("strict", "loose")
    assert strict["doc_id"] == loose["doc_id"] == 0
    assert strict["filtered_resps"] == [None]
    assert loose["resps"] == [[f"It is {loose['filtered_resps'][0]}.\n"]]
    assert float(samples_of(exported, "good", "texts")[0]["resps"][0][0]) < 0


@pytest.mark.lmeval
def test_lm_evals_own_code_reads_its_results_and_samples(exported: Path) -> None:
    command = [need("lmeval"), "-c", READ_BY_LM_EVAL, str(exported / "lm-eval")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["counts"] == {"colours": 12, "sums": 20, "texts": 4}
    value = results_of(exported, "good")["results"]["colours"]["acc,none"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found["table"].splitlines()]
    assert [row[6] for row in rows if row[4] == "acc"] == [f"{value:.4f}"]


def schemas() -> Iterator[Draft7Validator]:
    """The schemas for whole runs and for samples in the wheel of every-eval-ever."""
    with zipfile.ZipFile(need("every_eval_ever")) as files:
        for name in ("eval", "instance_level_eval"):
            yield Draft7Validator(json.loads(files.read(f"every_eval_ever/schemas/{name}.schema.json")))


def test_every_eval_ever_has_its_schema(exported: Path) -> None:
    whole, instance = schemas()
    records = sorted((exported / "every-eval-ever").rglob("*[!s].json"))
    assert len(records) == 6
    for path in records:
        record = read_json(path)
        whole.validate(record)
        samples = exported / "every-eval-ever" / record["detailed_evaluation_results"]["file_path"]
        lines = list(read_jsonl(samples))
        assert len(lines) == record["detailed_evaluation_results"]["total_rows"] > 0
        for line in lines:
            instance.validate(line)
        known = {result["evaluation_result_id"] for result in record["evaluation_results"]}
        assert {line["evaluation_result_id"] for line in lines} <= known


def test_every_eval_evers_scores_are_those_of_the_run(report: Path, exported: Path) -> None:
    (path,) = (exported / "every-eval-ever/data/colours").glob("*/good/*[!s].json")
    (first, *_) = read_json(path)["evaluation_results"]
    metric = scores_of(report, "good", "colours").main
    assert first["score_details"]["score"] == metric.value
    interval = first["score_details"]["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == metric.ci95


def test_the_same_sample_has_the_same_hash_whatever_the_model_has_chosen(tmp_path: Path) -> None:
    whole = {"prompt": "{{ q }} {{ choice }}", "scoring": "perplexity", "metrics": ["accuracy"]}
    report = finished_run(tmp_path, {"whole": CHOICE | whole})
    export(report, ["every-eval-ever"], tmp_path / "out")
    files = sorted((tmp_path / "out").glob("every-eval-ever/data/whole/*/*/*_samples.jsonl"))
    found = [[(line["sample_id"], line["sample_hash"]) for line in read_jsonl(file)] for file in files]
    assert len(found) == 2
    assert found[0] == found[1]
    answers = [[line["output"]["raw"] for line in read_jsonl(file)] for file in files]
    assert answers[0] != answers[1]


def test_parquet_gives_back_scores_and_samples(report: Path, exported: Path) -> None:
    frame = pd.read_parquet(exported / "parquet/scores.parquet")
    row = frame.query("model == 'bad' and dataset == 'colours' and is_primary").iloc[0]
    metric = scores_of(report, "bad", "colours").main
    assert (row["value"], row["stderr"], row["n"]) == (metric.value, metric.stderr, metric.n)
    assert row["lm_eval_metric"] == "acc,none"
    samples = pd.read_parquet(exported / "parquet/samples.parquet")
    own = samples.query("model == 'bad' and dataset == 'colours'")
    assert own["score"].mean() == pytest.approx(metric.value)
    assert json.loads(own.iloc[0]["row"]) == {"q": "0?", "options": ["red", "blue", "dark green"], "label": 0}
    assert dict(own.iloc[0]["scores"])["accuracy"] == own.iloc[0]["score"]
    assert pq.read_metadata(exported / "parquet/samples.parquet").num_rows == 2 * (10 + 12 + 4)


def test_duckdb_reads_what_is_written_as_parquet(report: Path, exported: Path) -> None:
    scores, samples = (str(exported / f"parquet/{name}.parquet") for name in ("scores", "samples"))
    kinds = "is_primary AND kind IN ('choice', 'generate')"
    asked = f"SELECT model, dataset, value, n FROM read_parquet(?) WHERE {kinds} ORDER BY ALL"
    whole = duckdb.execute(asked, [scores]).fetchall()
    assert len(whole) == 4
    assert [row[2] for row in whole] == [scores_of(report, *row[:2]).main.value for row in whole]
    means = "SELECT model, dataset, avg(score), count(*) FROM read_parquet(?) WHERE dataset != 'texts'"
    found = duckdb.execute(f"{means} GROUP BY ALL ORDER BY ALL", [samples]).fetchall()
    assert found == [(*row[:2], pytest.approx(row[2]), row[3]) for row in whole]
    # Nested columns and JSON, as one asks for them.
    nested = "max(len(choices)), bool_and(scores['accuracy'] = score), min(row ->> '$.q')"
    chosen = f"SELECT {nested} FROM read_parquet(?) WHERE model = 'bad' AND dataset = 'colours'"
    assert duckdb.execute(chosen, [samples]).fetchone() == (3, True, "0?")


def test_only_whole_data_sets_of_the_hub_become_results_of_the_hub(report: Path, tmp_path: Path) -> None:
    finished = read_finished(report)
    assert len(export_hub(finished, tmp_path)) == 6
    scores = scores_of(report, "good", "colours")
    weights = {"kind": "hub", "path": "/home/me/m", "identity": {"repository": "org/m", "commit": "c0ffee"}}
    rows = {"hub": "org/colours", "config": "easy", "split": "test", "commit": "abc"}
    provenance = replace(scores.provenance, rows=rows, config=scores.provenance.config | {"weights": weights})
    whole = replace(scores, provenance=provenance)
    part = replace(whole, dataset=replace(scores.dataset, name="part", limit="first 2 of 12 rows"))
    pairs = {("good", "colours"): Pair(whole, None), ("good", "part"): Pair(part, None)}
    left_out = export_hub(type(finished)("trial", finished.folder, finished.results, Results(pairs)), tmp_path)
    assert left_out == ["good on part: asked only in part (first 2 of 12 rows)"]
    (entry,) = parse_eval_result_entries(yaml.safe_load((tmp_path / "org/m/.eval_results/colours.yaml").read_text()))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("org/colours", "easy", "abc")
    assert entry.value == round(100 * (scores.main.value or 0), 10)
    assert "0-shot" in (entry.notes or "")


def test_the_same_run_is_exported_to_the_same_bytes(report: Path, exported: Path, tmp_path: Path) -> None:
    export(report, list(FORMATS), tmp_path)
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {path.relative_to(exported) for path in exported.rglob("*") if path.is_file()}
    assert all((tmp_path / file).read_bytes() == (exported / file).read_bytes() for file in files)


def test_no_export_names_a_folder_of_this_machine(report: Path, exported: Path) -> None:
    root = str(report.parent.parent.parent).encode()
    assert not [path for path in exported.rglob("*") if path.is_file() and root in path.read_bytes()]


def test_no_export_names_the_folder_of_a_failed_jobs_log(report: Path, tmp_path: Path) -> None:
    shutil.copytree(report.parent.parent, tmp_path / "results", symlinks=True)
    made_of = layout.REPORT_INPUTS.file(tmp_path / "results", report=report.resolve().name)
    name = {"name": "bad", "digest": "d"}
    gap = {"model": name, "dataset": name, "status": "failed", "reason": "no /home/alice/x", "log": "/home/alice/a.log"}
    made_of.write_text(json.dumps(sealed(read_sealed(made_of) | {"gaps": [gap]})))
    (found,) = read_finished(tmp_path / "results/reports/trial").scored.gaps
    assert found.text == "failed: no ~/x (~/a.log)"


def test_surrogates_and_control_characters_are_written_so_that_others_can_read_them(tmp_path: Path) -> None:
    from shardmark.export.finished import plain_json

    assert json.loads(plain_json({"a": "\ud83d\ude00", "b": "x\ud800\x00"})) == {"a": "😀", "b": "x\ufffd\x00"}


def test_an_unknown_format_is_told_with_the_nearest(report: Path, tmp_path: Path) -> None:
    (problem,) = problems(export, report, ["parket"], tmp_path)
    assert (problem.what, problem.fix) == ("'parket' is not a format", "did you mean 'parquet'?")


@pytest.mark.slow
def test_all_formats_are_the_default_of_the_command(report: Path, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "scripts/export.py", "--report", report, "--out", tmp_path / "out"]
    subprocess.run(command, check=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"lm-eval", "parquet"}


def test_a_folder_without_a_report_or_without_its_list_is_told(report: Path, tmp_path: Path) -> None:
    assert problems(read_finished, tmp_path)[0].fix
    (problem,) = problems(read_finished, tmp_path)
    assert problem.what == "contains no report"
    lonely = tmp_path / "results/reports/x@0123456789abcdef"
    lonely.mkdir(parents=True)
    (lonely / "index.html").touch()
    (problem,) = problems(read_finished, lonely)
    assert "list of what the report was made of" in problem.what


def test_answers_that_are_gone_are_told_by_name(report: Path, tmp_path: Path) -> None:
    fields = next(iter(read_finished(report).results.glob("predictions/*/sums/*.jsonl")))
    aside = fields.with_suffix(".aside")
    fields.rename(aside)
    try:
        found = problems(export, report, ["lm-eval"], tmp_path)
    finally:
        aside.rename(fields)
    assert found[0].where == str(fields)


def test_names_are_keys_of_lm_eval() -> None:
    name = MetricName("t", "acc", "none")
    assert (name.key, name.stderr_key) == ("acc,none", "acc_stderr,none")
