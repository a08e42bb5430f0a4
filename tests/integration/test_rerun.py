"""What runs again after a change: exact job sets and exact request counts, with the real Snakemake."""

import base64
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from quick_engine import finished_project
from workflow import Project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run that has finished."""
    project, output = finished_project(tmp_path_factory)
    *_, last = ends = output.splitlines()[-12:]
    assert last == "report: results/reports/test/index.html"
    assert any("demo_small" in line and "±" in line for line in ends)
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run in another folder, without Snakemake's own records."""
    copy = finished.copy(tmp_path / "clone")
    shutil.rmtree(copy.folder / ".snakemake")
    return copy


def rows(project: Project) -> list[str]:
    return (project.folder / "demo/data/arithmetic.jsonl").read_text().splitlines()


def write_rows(project: Project, lines: list[str]) -> None:
    (project.folder / "demo/data/arithmetic.jsonl").write_text("\n".join(lines) + "\n")


def test_the_report_and_its_tables_are_there(finished: Project) -> None:
    report = finished.folder / "results/reports/test"
    assert "demo_small" in (report / "index.html").read_text()
    assert "demo_grammar" in (report / "leaderboard.csv").read_text()
    assert (report / "leaderboard.md").read_text().startswith("|")


@pytest.mark.slow
def test_snakemakes_own_report_has_captions_and_no_dead_link(finished: Project) -> None:
    finished.run("--report", "out.html")
    page = (finished.folder / "out.html").read_text("utf-8")
    found = re.search(r"var results = (\{.*\});?\s*$", page, re.MULTILINE)
    assert found
    results = json.loads(found[1])
    assert {Path(name).name for name in results} == {"leaderboard.html", "leaderboard.csv"}
    for result in results.values():
        assert "95 % interval" in result["caption"]
        assert result["labels"]["table"]
    (html,) = [each["data_uri"] for name, each in results.items() if name.endswith(".html")]
    text = base64.b64decode(html.partition(",")[2]).decode()
    assert "demo_small" in text
    links = re.findall(r"""(?:href|src)=["']([^"']*)""", text)
    assert [link for link in links if not link.startswith(("data:", "#"))] == []


def test_nothing_is_to_be_done_the_second_time(finished: Project) -> None:
    assert "Nothing to be done" in finished.run()
    assert finished.planned() == {}


def test_nothing_is_to_be_done_in_another_folder_after_touching_every_file(project: Project) -> None:
    for path in project.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.touch()
    assert project.planned() == {}


# The table of what runs after a change: exact jobs in a dry run, exact requests in a real one.


def after(project: Project, *arguments: str) -> tuple[dict[str, int], int]:
    """The jobs that a run announces and does, and the requests that it infers."""
    before = project.trailers()
    output = project.run(*arguments)
    assert project.jobs(output) == project.announced(output)
    return project.jobs(output), project.inferred(before)


@pytest.mark.slow
def test_a_decoding_setting_reruns_its_data_set_as_a_dry_run_says(project: Project) -> None:
    project.edit_yaml("config/datasets/demo_arithmetic.yaml", generation={"max_new_tokens": 3, "stop": ["\n"]})
    planned = project.planned()
    assert after(project) == (planned, 16)
    assert planned == {"infer": 2, "score": 1, "report": 1}


@pytest.mark.slow
def test_a_changed_metric_and_a_changed_filter_infer_nothing(project: Project) -> None:
    project.edit_yaml("config/datasets/demo_grammar.yaml", metrics=["accuracy", "brier"])
    project.edit_yaml("config/datasets/demo_arithmetic.yaml", filters=["last_number"])
    assert after(project) == ({"score": 2, "report": 1}, 0)


def test_a_changed_report_template_makes_only_the_report(project: Project) -> None:
    template = project.folder / "scripts/shardmark/report/templates/index.html.j2"
    template.write_text(template.read_text() + "<!-- mine -->")
    assert project.planned() == {"report": 1}


def test_batch_size_profile_and_comments_change_nothing(project: Project) -> None:
    project.edit_yaml("config/models/demo_small.yaml", batch_size=3)
    profile = project.folder / "profiles/local/config.yaml"
    profile.write_text(profile.read_text().replace("cores: all", "cores: 1"))
    for path in ("config/datasets/demo_arithmetic.yaml", "config/test.yaml", "Snakefile", "rules/infer.smk"):
        with open(project.folder / path, "a") as file:
            file.write("\n# a comment\n")
    assert project.planned() == {}


@pytest.mark.slow
def test_an_edited_row_and_one_inserted_at_the_front_each_rerun_a_shard_and_infer_a_request(project: Project) -> None:
    lines = rows(project)[:16]
    lines[3] = json.dumps(json.loads(lines[3]) | {"question": "1+1=", "answer": "2"})
    write_rows(project, lines)
    grammar = project.folder / "demo/data/grammar.jsonl"
    sentences = grammar.read_text().splitlines()[:16]
    changed = {"id": "new", "sentence_a": "Grace smile.", "sentence_b": "Grace smiles."}
    grammar.write_text("\n".join([json.dumps(json.loads(sentences[0]) | changed), *sentences]) + "\n")
    assert after(project, "--config", "limit=17") == ({"infer": 2, "score": 2, "report": 1}, 2)
    assert project.samples()["demo_small", "demo_arithmetic", json.loads(lines[3])["id"]]["target"] == "2"


@pytest.mark.slow
def test_a_deleted_row_and_reordered_rows_infer_nothing(project: Project) -> None:
    lines = rows(project)[:16]
    write_rows(project, [*lines[:5], *lines[6:]])
    grammar = project.folder / "demo/data/grammar.jsonl"
    grammar.write_text("".join(reversed(grammar.read_text().splitlines(keepends=True)[:16])))
    assert after(project) == ({"score": 2, "report": 1}, 0)


@pytest.mark.slow
def test_a_changed_prompt_reruns_its_data_set_and_infers_what_is_asked_differently(project: Project) -> None:
    grammar = yaml.safe_load((project.folder / "config/datasets/demo_grammar.yaml").read_text())
    project.edit_yaml("config/datasets/demo_grammar.yaml", prompt="Look: " + grammar["prompt"])
    assert after(project) == ({"infer": 2, "score": 1, "report": 1}, 16)
    longer = "{% if id == '" + json.loads(rows(project)[0])["id"] + "' %}Look: {% endif %}"
    arithmetic = yaml.safe_load((project.folder / "config/datasets/demo_arithmetic.yaml").read_text())
    project.edit_yaml("config/datasets/demo_arithmetic.yaml", prompt=longer + arithmetic["prompt"])
    assert after(project) == ({"infer": 1, "score": 1, "report": 1}, 1)


def test_few_shot_examples_rerun_their_data_set(project: Project) -> None:
    examples = {"examples": [{"question": "1+1=", "answer": "2"}], "answer": " {{ answer }}"}
    project.edit_yaml("config/datasets/demo_arithmetic.yaml", few_shot=examples)
    assert project.planned() == {"infer": 2, "score": 1, "report": 1}


@pytest.mark.slow  # three runs of two models, each loaded anew
def test_a_changed_dtype_chat_template_or_weight_reruns_the_whole_model(project: Project) -> None:
    everything = {"stage_model": 1, "infer": len(project.trailers()), "score": 2, "report": 1}
    assert project.planned("--config", "dtype=bfloat16") == everything
    template = project.folder / "demo/models/small/chat_template.jinja"
    template.write_text("{{ messages }}")
    assert project.planned() == everything
    template.unlink()
    assert project.planned() == {}
    weights = project.folder / "demo/models/small/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert after(project) == (everything, 32)


@pytest.mark.slow
def test_shards_that_are_divided_anew_infer_nothing(project: Project) -> None:
    assert project.planned("--config", "max_shard_size=4") == {}
    before = project.trailers()
    project.edit_yaml("config/datasets/demo_arithmetic.yaml", metrics=[{"name": "exact_match", "ignore_case": True}])
    assert after(project, "--config", "max_shard_size=4") == ({"score": 1, "report": 1}, 0)
    assert len(project.trailers()) > len(before)
    assert after(project, "--config", "max_shard_size=100") == ({}, 0)


def test_a_new_model_runs_alone_and_a_removed_data_set_runs_nothing(project: Project) -> None:
    shards = len(project.trailers())
    assert project.planned("--config", "models=[demo_small, demo_medium]") == {
        "stage_model": 1,
        "infer": shards,
        "score": 2,
        "report": 1,
    }
    assert project.planned("--config", "datasets=[demo_grammar]") == {"report": 1}


@pytest.mark.slow
def test_a_model_and_a_data_set_under_new_names_infer_nothing(project: Project) -> None:
    (project.folder / "config/models/demo_small.yaml").rename(project.folder / "config/models/renamed.yaml")
    datasets = project.folder / "config/datasets"
    (datasets / "demo_grammar.yaml").rename(datasets / "language.yaml")
    before = project.trailers()
    project.run("--config", "models=renamed", "datasets=language")
    assert project.inferred(before) == 0
    assert len(project.trailers()) == len(before) + 2


@pytest.mark.slow
def test_a_changed_description_reaches_the_report_and_scores_nothing(project: Project) -> None:
    project.edit_yaml("config/models/demo_small.yaml", description="the humblest model")
    project.edit_yaml("config/datasets/demo_grammar.yaml", description="the finest sentences")
    assert project.planned() == {"report": 1}
    project.run()
    page = (project.folder / "results/reports/test/index.html").read_text()
    assert "the humblest model" in page
    assert "the finest sentences" in page


@pytest.mark.slow
def test_a_score_that_was_removed_is_made_again_and_the_summary_says_so(project: Project) -> None:
    shutil.rmtree(project.folder / "results/scores")
    assert project.planned() == {"score": 2, "report": 1}
    shutil.rmtree(project.folder / "results/predictions")
    shards = len(list((project.folder / "results/requests").glob("*/*.jsonl")))
    assert f"{shards} shards, {shards} to run" in project.run("-n")
    assert project.planned()["infer"] == shards


def test_predictions_whose_scores_are_there_are_not_counted_as_work(project: Project) -> None:
    shutil.rmtree(project.folder / "results/predictions")
    output = project.run("-n")
    assert "0 to run" in output
    assert "Nothing to be done" in output


def test_weights_that_are_staged_again_infer_nothing_again(project: Project) -> None:
    shutil.rmtree(project.folder / "results/staged")
    assert project.planned() == {}
    lines = rows(project)
    write_rows(project, [lines[0].replace("=", "=="), *lines[1:]])
    assert project.planned() == {"stage_model": 1, "infer": 1, "score": 1, "report": 1}


@pytest.mark.slow
def test_going_back_to_an_earlier_configuration_shows_its_report_again(project: Project) -> None:
    link = project.folder / "results/reports/test"
    first = link.resolve()
    project.run("--config", "datasets=[demo_grammar]", "run=test")
    assert link.resolve() != first
    assert "Nothing to be done" in project.run()
    assert link.resolve() == first
