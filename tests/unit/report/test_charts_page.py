"""The page of charts: what each shows, and its files."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardmark.records.base import to_json
from shardmark.report import vega
from shardmark.report.build import build_report
from shardmark.report.paired import Comparisons
from shardmark.report.results import read_results
from unit.report.fake_results import (
    Files,
    make_samples,
    make_scores,
    make_timings,
    read_chunk,
    write_pair,
    write_results,
)


def built(root: Path, files: Files, **more: Any) -> Path:
    return build_report("run", files.scores, files.samples, root, {}, **more).parent


def rows(report: Path, chart: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((report / f"charts/{chart}.csv").read_text("utf-8"))))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_results(tmp_path_factory.mktemp("fake"), n=40)


def test_differences_are_those_of_the_comparisons(files: Files, tmp_path: Path) -> None:
    report, compared = built(tmp_path / "out", files), Comparisons(read_results(*files))
    found = {(row["model"], row["dataset"]): row for row in rows(report, "differences")}
    apart = compared.between("demo_tiny", "demo_large", "demo_capitals")
    row = found["demo_tiny", "demo_capitals"]
    assert float(row["difference"]) == pytest.approx(100 * apart.difference, rel=1e-5)
    assert [float(row["low"]), float(row["high"])] == pytest.approx([100 * end for end in apart.ci95 or ()], rel=1e-5)
    assert apart.p <= float(row["p"]) <= 2.001 * apart.p  # of two models
    assert ("demo_tiny", "demo_reading_comprehension") not in found
    assert ("demo_base", "mean") in found


def test_charts_are_only_of_what_is_known(files: Files, tmp_path: Path) -> None:
    report = built(tmp_path / "out", files)
    names = {path.stem for path in (report / "charts").glob("*.csv")}
    assert names == {"scores", "differences", "calibration", "calibration-error", "lengths", "times"}
    assert {path.stem for path in (report / "charts").glob("*.svg")} == names
    assert {row["dataset"] for row in rows(report, "calibration")} == {"demo_capitals"}


def test_a_mean_stands_against_parameters_hours_tokens_and_money(tmp_path: Path) -> None:
    pairs, timings = Files([], []), []
    for model, size in (("a", 7_000_000_000), ("b", 1_000_000_000)):
        samples = make_samples(model, "demo_arithmetic", 20)
        scores = make_scores(model, "demo_arithmetic", samples)
        scores["model"]["num_gpus"] = 2
        write_pair(tmp_path, pairs, scores, samples)
        usage = {"read": 900, "written": 100, "served": {"x": 20}} | ({"money": 0.25} if model == "a" else {})
        took = to_json(make_timings(seconds=1800.0)) | {"parameters": size, "usage": usage}
        path = tmp_path / "timings" / pairs.scores[-1].parent.name / pairs.scores[-1].name
        path.parent.mkdir(parents=True)
        path.write_bytes(msgspec.json.encode(took))
        timings.append(path)
    report = built(tmp_path / "out", pairs, timings=timings, prices={"a": (1.0, 1.0), "b": (100.0, 1600.0)})
    found = {name: rows(report, f"mean-by-{name}") for name in ("parameters", "gpu-hours", "tokens", "money")}
    assert sorted(float(row["parameters"]) for row in found["parameters"]) == [1e9, 7e9]
    assert [float(row["gpu_hours"]) for row in found["gpu-hours"]] == [1.0, 1.0]
    assert [float(row["tokens"]) for row in found["tokens"]] == [1000, 1000]
    assert [float(row["money"]) for row in found["money"]] == [0.25, 0.25]


@pytest.mark.usefixtures("drawn")
def test_the_same_charts_are_the_same_bytes_and_bring_nothing_along(files: Files, tmp_path: Path) -> None:
    first, second = (built(tmp_path / name, files, kept=tmp_path / "kept") for name in ("one", "two"))
    names = sorted(path.name for path in (first / "charts").iterdir())
    for name in names:
        text = (first / "charts" / name).read_text("utf-8")
        assert text == (second / "charts" / name).read_text("utf-8"), name
        assert "<script" not in text
        assert "href" not in text
        if name.endswith(".svg"):
            assert text.startswith("<svg")
            assert "var(--" not in text
    assert "demo_tiny" in (first / "charts/differences.svg").read_text("utf-8")
    vega = (first / "data/vega.js").read_text("utf-8")
    assert vega.startswith("(() => {\n")
    assert "globalThis.vegaEmbed=" in vega
    (kept,) = (tmp_path / "kept/plans/vega").iterdir()
    assert kept.read_text("utf-8") == vega == (second / "data/vega.js").read_text("utf-8")


def test_cells_that_a_spreadsheet_would_compute_are_texts(tmp_path: Path) -> None:
    files = Files([], [])
    samples = make_samples("a", "demo_capitals", 12)
    scores = make_scores("-a", "demo_capitals", samples)
    write_pair(tmp_path, files, scores, samples)
    report = built(tmp_path / "out", files)
    assert {row["model"] for row in rows(report, "scores")} == {"'-a"}


@pytest.mark.parametrize(("colours", "menus"), [(2, ["On", "Of"]), (3, ["On"])])
def test_colours_are_used_only_while_they_can_be_told_apart(
    files: Files, tmp_path: Path, monkeypatch: Any, colours: int, menus: list[str]
) -> None:
    monkeypatch.setattr("shardmark.report.answer_charts.COLOURS", ["#000000"] * colours)
    report = built(tmp_path / "out", files)
    found = {chunk["columns"][2]: chunk["spec"] for chunk in chunks_of(report)}
    assert [each["bind"]["name"].strip() for each in found["bin"]["params"]] == menus
    assert "color" not in found["seconds"]["encoding"]  # of four data sets
    assert found["seconds"]["encoding"]["x"]["title"] == "minutes of inference"


def chunks_of(report: Path) -> list[Any]:
    """The chunks of all charts on the page."""
    names = re.findall('data-chunk="([^"]+)"', (report / "charts.html").read_text("utf-8"))
    return [msgspec.json.decode(read_chunk((report / f"data/{name}.js").read_bytes())) for name in names]


def test_a_chunk_has_what_the_files_show(files: Files, tmp_path: Path) -> None:
    report = built(tmp_path / "out", files)
    chunk = chunks_of(report)[0]
    assert chunk["columns"] == ["model", "dataset", "difference", "low", "high", "p"]
    assert len(chunk["rows"]) == len(rows(report, "differences"))


@pytest.mark.usefixtures("drawn")
def test_what_is_too_much_for_a_page_is_drawn_from_chunks(files: Files, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("shardmark.report.charts.DRAWN", 4)
    monkeypatch.setattr("shardmark.report.charts.WIDE", 2)
    monkeypatch.setattr(vega, "vega_script", lambda: "")
    report = built(tmp_path / "out", files)
    assert chunks_of(report)[0]["spec"]["width"] == {"step": 15}
    assert len(rows(report, "intervals")) == 11
    assert len(rows(report, "heat-map")) == 11
    assert "demo_tiny" in (report / "charts/heat-map.svg").read_text("utf-8")
    assert not (report / "charts/scores.svg").exists()
    assert "charts/scores.svg" not in (report / "charts.html").read_text("utf-8")


@pytest.mark.usefixtures("drawn")
def test_the_script_that_draws_is_the_same_from_the_users_cache_which_may_be_damaged_or_missing(
    tmp_path: Path, monkeypatch: Any
) -> None:
    made: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda snippet: made.append(snippet) or "bundle")
    script = vega.vega_script.__wrapped__
    assert script() == script() == f"(() => {{\nbundle\n{vega.END}"
    assert len(made) == 1
    [cached] = tmp_path.glob("shardmark/vega/*.js")
    cached.write_text("alert(1)" + vega.END)
    assert "alert" not in script()
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert script() == f"(() => {{\nbundle\n{vega.END}"
    assert len(made) == 3


def test_the_script_that_draws_is_kept_and_made_again_if_it_was_cut(tmp_path: Path, monkeypatch: Any) -> None:
    made = iter(["one" + vega.END, "two" + vega.END])
    monkeypatch.setattr(vega, "vega_script", lambda: next(made))
    kept = vega.keep_vega(tmp_path)
    assert kept == vega.kept_vega(tmp_path) == vega.keep_vega(tmp_path)
    assert kept.read_text() == "one" + vega.END
    kept.write_text("one")
    assert vega.keep_vega(tmp_path).read_text() == "two" + vega.END
