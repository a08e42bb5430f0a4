"""What is different between two reports, and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardmark.errors import UserError
from shardmark.records.base import to_json
from shardmark.report.changes import Change, changes
from shardmark.report.changes_page import write_changes
from shardmark.report.results import Results, read_results
from unit.report.fake_results import Files, fraction, make_samples, make_scores, write_pair

Edit = Callable[[dict[str, Any], list[dict[str, Any]]], None]
PARTS = {
    "rows": "r",
    "template": "t",
    "filters": "f",
    "metrics": "m",
    "revision": "v",
    "few_shot": "s",
    "protocol": "p",
}


def unchanged(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """No edit."""


def results(root: Path, edit: Edit = unchanged, models: tuple[str, ...] = ("a",)) -> Results:
    files = Files([], [])
    for model in models:
        samples = make_samples("a", "demo_arithmetic", 40)
        scores = make_scores(model, "demo_arithmetic", samples)
        scores["provenance"]["components"] = dict(PARTS)
        scores["provenance"]["model_components"] = {"revision": "w", "settings": "s"}
        edit(scores, samples)
        scores["metrics"]["accuracy"] = fraction([sample["scores"]["accuracy"] for sample in samples])
        write_pair(root, files, scores, samples)
    return read_results(files.scores, files.samples)


def change(tmp_path: Path, edit: Edit) -> Change:
    (found,) = changes(results(tmp_path / "before"), results(tmp_path / "after", edit))
    return found


def flip(scores: dict[str, Any], samples: list[dict[str, Any]], *numbers: int) -> None:
    for number in numbers:
        sample = samples[number]
        sample["scores"]["accuracy"] = 1 - sample["scores"]["accuracy"]
        sample["output"] = "another <script>alert(1)</script>\x00"


def test_the_same_is_no_change(tmp_path: Path) -> None:
    assert changes(results(tmp_path / "before"), results(tmp_path / "after")) == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_data_set_with_another_digest_is_the_cause(tmp_path: Path, part: str) -> None:
    def edit(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        scores["provenance"]["components"][part] = "new"
        scores["dataset"]["digest"] = "new"
        flip(scores, samples, 3)

    found = change(tmp_path, edit)
    assert [(cause.part, cause.before, cause.after) for cause in found.causes] == [(part, PARTS[part], "new")]
    assert found.status == "moved"
    assert [each.sample for each in found.flips] == ["arith-0003"]
    assert found.p == 1  # one sample is no proof


def test_a_models_parts_are_told(tmp_path: Path) -> None:
    def edit(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        scores["model"]["digest"] = "new"
        scores["provenance"]["model_components"]["revision"] = "new"

    found = change(tmp_path, edit)
    assert [cause.part for cause in found.causes] == ["model revision"]
    assert (found.status, found.flips) == ("remade", [])


def test_of_earlier_versions_settings_and_weights_tell(tmp_path: Path) -> None:
    def earlier(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        del scores["provenance"]["model_components"], scores["provenance"]["components"]

    def later(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        earlier(scores, samples)
        scores["model"]["digest"] = scores["dataset"]["digest"] = "new"
        scores["provenance"]["config"]["model"]["dtype"] = "bfloat16"

    (found,) = changes(results(tmp_path / "before", earlier), results(tmp_path / "after", later))
    assert [cause.part for cause in found.causes] == ["another data set", "model settings"]

    def another(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        earlier(scores, samples)
        scores["model"]["digest"] = "new"

    (found,) = changes(results(tmp_path / "before2", earlier), results(tmp_path / "after2", another))
    assert [cause.part for cause in found.causes] == ["another model"]


def test_other_answers_to_the_same_are_told_as_such(tmp_path: Path) -> None:
    def edit(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        right = next(n for n, sample in enumerate(samples) if sample["scores"]["accuracy"])
        wrong = next(n for n, sample in enumerate(samples) if not sample["scores"]["accuracy"])
        flip(scores, samples, right, wrong)

    found = change(tmp_path, edit)
    assert (found.status, len(found.flips)) == ("flipped", 2)
    assert [cause.part for cause in found.causes] == ["answers"]
    assert found.difference == 0


def test_a_significant_change_is_tested_on_the_samples_that_both_have(tmp_path: Path) -> None:
    def edit(scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        for sample in samples:
            sample["scores"]["accuracy"] = 0.0
        del samples[:5]

    found = change(tmp_path, edit)
    lost = sum(sample["scores"]["accuracy"] for sample in make_samples("a", "demo_arithmetic", 40)[5:])
    assert found.p == pytest.approx(2 * 0.5**lost)
    assert found.p_holm == found.p
    assert found.verdict == "worse"
    assert (found.only_before, found.only_after) == (5, 0)


def test_what_is_new_and_what_is_gone(tmp_path: Path) -> None:
    before, after = results(tmp_path / "b", models=("a", "b")), results(tmp_path / "a", models=("a", "c"))
    assert [(found.model, found.status) for found in changes(before, after)] == [("c", "added"), ("b", "removed")]


def test_a_damaged_line_is_told_with_its_number(tmp_path: Path) -> None:
    before, after = results(tmp_path / "before"), results(tmp_path / "after")
    for path, text in (
        (after.pairs["a", "demo_arithmetic"], '{"sample": 1}'),
        (before.pairs["a", "demo_arithmetic"], "{"),
    ):
        assert path.samples
        lines = path.samples.read_text("utf-8").splitlines(keepends=True)
        path.samples.write_text("".join([*lines[:6], f"{text}\n", *lines[7:]]), "utf-8")
        with pytest.raises(UserError, match="jsonl:7"):
            changes(before, after)


def test_the_page_shows_flips_escaped(tmp_path: Path) -> None:
    found = change(tmp_path, lambda scores, samples: flip(scores, samples, 1, 2))
    write_changes(tmp_path / "changes.html", [found], "demo@1", "demo@2")
    page = (tmp_path / "changes.html").read_text("utf-8")
    assert "2 samples flipped" in page.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "another &lt;script&gt;alert(1)&lt;/script&gt;␀" in page
    assert page.count("<script>") == 1  # our own, which sorts
    assert "samples.html" not in page
    (tmp_path / "samples.html").touch()
    write_changes(tmp_path / "changes.html", [found], "demo@1", "demo@2")
    link = 'href="samples.html#dataset=demo_arithmetic&amp;model=a&amp;sample=arith-0001"'
    assert link in (tmp_path / "changes.html").read_text("utf-8")
    assert to_json(found)["flips"][0]["sample"] == "arith-0001"
