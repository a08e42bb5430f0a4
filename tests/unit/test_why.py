"""A plan says what has changed since a model and a data set were last scored, and what that makes it do."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

import made_up_answers
from projects import GENERATE, ROWS, change_yaml, plan, write_dataset, write_model, write_rows, write_weights
from shardmark.plan.summary import print_summary
from shardmark.plan.why import Reason, reason_lines, reasons
from shardmark.records.base import to_json
from shardmark.tools.details import plan_details


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_model(tmp_path, "tiny")
    write_dataset(tmp_path, "sums")
    made_up_answers.finish(plan(tmp_path))
    return tmp_path


def reason(root: Path, **config: Any) -> Reason:
    made = plan(root, **config)
    (found,) = reasons(made.pairs, made.results)
    return found


def test_what_is_scored_needs_no_reason(root: Path) -> None:
    made = plan(root)
    assert reasons(made.pairs, made.results) == []


@pytest.mark.parametrize(
    ("change", "parts", "follows"),
    [
        ({"prompt": "{{ question }}"}, ["template"], "5 requests"),
        ({"few_shot": {"count": 1}}, ["few_shot"], "5 requests"),
        ({"filters": ["strip"]}, ["filters", "protocol"], "scoring only"),
        ({"metrics": ["exact_match", "rouge"]}, ["metrics", "protocol"], "scoring only"),
        ({"generation": {"max_new_tokens": 7}}, ["generation"], "5 requests"),
        ({"where": "answer != '3'"}, ["rows"], "scoring only"),
        ({"filters": ["strip"], "target": "name"}, ["template", "filters", "protocol"], "scoring only"),
    ],
)
def test_a_changed_data_set_names_its_parts_and_what_follows(
    root: Path, change: dict[str, Any], parts: list[str], follows: str
) -> None:
    change_yaml(root / "config/datasets/sums.yaml", **change)
    found = reason(root)
    assert [cause.part for cause in found.causes] == parts
    assert found.follows == follows
    assert replace(found, requests=1, of=1).follows == "1 request"
    told = [cause for cause in found.causes if cause.part != "protocol"]  # which lists filters and metrics, too
    assert all(f"{cause.what} ({cause.before[:8]} -> {cause.after[:8]})" in found.why for cause in told)
    assert "how Shardmark" not in found.why


def test_changed_rows_are_named(root: Path) -> None:
    rows = [*ROWS[:2], ROWS[2] | {"question": "?"}, ROWS[4], {"name": "n9", "question": "9?", "answer": "9"}]
    change_yaml(root / "config/datasets/sums.yaml", id_column="name")
    made_up_answers.finish(plan(root))
    write_rows(root / "data/sums.jsonl", rows)
    found = reason(root)
    assert found.rows == "row 2 (n2) changed, n9 new, n3 gone"
    assert (found.requests, found.of, found.follows) == (2, 5, "2 of 5 requests")
    assert found.rows in found.why


def test_changed_weights_and_settings_of_a_model_are_named(root: Path) -> None:
    write_weights(root / "weights/tiny", b"others")
    assert [cause.part for cause in reason(root).causes] == ["model revision"]
    change_yaml(root / "config/models/tiny.yaml", max_seq_len=1000)
    found = reason(root)
    assert [cause.part for cause in found.causes] == ["model revision", "model settings"]
    assert found.why.startswith("the weights (")


def test_what_was_never_scored_and_what_is_half_done_say_so(root: Path) -> None:
    write_model(root, "fresh")
    made = plan(root)
    (fresh,) = reasons(made.pairs, made.results)
    assert (fresh.why, fresh.follows) == ("not run before", "5 requests")
    pair = next(pair for pair in made.pairs if pair.model.name == "fresh")
    for shard in pair.missing:
        made_up_answers.answer(made, pair, shard.name)
    assert (reason(root).why, reason(root).follows) == ("answered, but not scored yet", "scoring only")


def test_scores_of_an_earlier_version_without_digests_of_parts_name_the_whole(root: Path) -> None:
    (file,) = (root / "results/scores").glob("*/*.json")
    value = json.loads(file.read_text())
    for key in ("components", "model_components"):
        del value["provenance"][key]
    from shardmark.files import SEAL, pretty_json, sealed

    file.write_text(pretty_json(sealed({key: part for key, part in value.items() if key != SEAL})))
    change_yaml(root / "config/datasets/sums.yaml", filters=["strip"])
    write_weights(root / "weights/tiny", b"others")
    assert [cause.part for cause in reason(root).causes] == ["another data set", "another model"]


def test_models_and_data_sets_with_one_reason_share_a_line(root: Path) -> None:
    for name in ("a", "b", "c", "d"):
        write_model(root, name)
    write_dataset(root, "more", **GENERATE)
    made = plan(root)
    lines = list(reason_lines(reasons(made.pairs, made.results)))
    assert lines[0] == "a, b, c and 1 more on more, sums: not run before; 5 requests each"
    assert lines[1] == "tiny on more: answered, but not scored yet; scoring only"
    assert len(lines) == 2
    assert (
        list(reason_lines(reasons(made.pairs, made.results), 1))[1]
        == "and 1 more reasons: `snakemake plan` lists them all"
    )


def test_scores_to_make_are_counted_and_reasons_stand_under_the_table(root: Path) -> None:
    change_yaml(root / "config/datasets/sums.yaml", filters=["strip"])
    made = plan(root)
    console = Console(width=120, record=True)
    print_summary(made, console, lambda pair: 1)
    text = console.export_text()
    assert "1 shard, 0 to run, 1 to score" in text
    assert "tiny on sums: the filters (" in text
    details = to_json(plan_details(made, lambda pair: 1))
    assert details["total"]["to_score"] == 1
    assert details["reasons"][0]["causes"][0]["part"] == "filters"
