"""What the page of comparisons loads are the comparisons of the library, rounded."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from shardmark.report import compare_page
from shardmark.report.build import build_report
from shardmark.report.compare_page import Row
from shardmark.report.compared import compare_datasets, compare_models
from shardmark.report.paired import Comparisons
from shardmark.report.results import read_results
from unit.report.fake_results import Files, make_samples, make_scores, read_chunk, write_pair, write_results
from unit.report.test_paired import prompts


def chunk(report: Path, name: str) -> Any:
    return msgspec.json.decode(read_chunk((report / f"data/{name}.js").read_bytes()))


def test_each_two_models_have_a_row_a_data_set_and_one_of_the_mean(tmp_path: Path) -> None:
    files = write_results(tmp_path, n=30)
    report = build_report("run", *files, tmp_path / "out", {}).parent
    compared = Comparisons(read_results(*files))
    start = chunk(report, "comparisons")
    assert start["models"] == compared.models
    names = [dataset["name"] for dataset in start["datasets"]]
    for one, name in enumerate(start["chunks"]):
        for place, rows in enumerate(chunk(report, name)):
            first, second = compared.models[one], compared.models[one + 1 + place]
            found = compare_models(compared, first, second)
            lines = {line.name: line for line in found.lines}
            for dataset, values in zip(names, rows[:-1], strict=True):
                if dataset not in lines:
                    assert values is None
                    assert dataset in found.left_out
                    continue
                row, line = Row(*values), lines[dataset]
                assert [row.difference, row.low, row.high] == pytest.approx([line.difference, *line.ci95], rel=1e-3)  # type: ignore[misc]
                assert [row.p, row.p_holm] == pytest.approx([line.p, line.p_holm], rel=1e-3)
                assert (row.wins, row.losses, row.n) == (line.wins, line.losses, line.n)
            mean = compared.mean(["demo_arithmetic", "demo_capitals", "demo_translation"])
            assert Row(*rows[-1]).p == pytest.approx(mean.p[one, one + 1 + place], rel=1e-3)


def test_where_lower_is_better_a_lower_score_wins(tmp_path: Path) -> None:
    files = Files([], [])
    for model, right in (("a", 3), ("b", 9)):
        samples = make_samples(model, "demo_arithmetic", 12)
        for number, sample in enumerate(samples):
            sample["scores"] = {"accuracy": float(number < right)}
        scores = make_scores(model, "demo_arithmetic", samples)
        scores["metrics"]["accuracy"]["higher_is_better"] = False
        write_pair(tmp_path, files, scores, samples)
    (line,) = compare_models(Comparisons(read_results(*files)), "a", "b").lines
    assert (line.difference, line.wins, line.losses, line.ties) == (-0.5, 6, 0, 6)
    report = build_report("run", *files, tmp_path / "out", {}).parent
    row = Row(*chunk(report, chunk(report, "comparisons")["chunks"][0])[0][0])
    assert (row.wins, row.losses) == (6, 0)


def test_two_prompts_have_a_row_a_model_and_the_places_of_the_same_rows(tmp_path: Path) -> None:
    results = prompts(tmp_path, {"x": list(range(20)), "y": list(range(25, -1, -1))})
    files = [sorted((tmp_path / kind).rglob("*.json*")) for kind in ("scores", "samples")]
    report = build_report("run", *files, tmp_path / "out", {}).parent
    ((first, second, name),) = chunk(report, "comparisons")["pairs"]
    found, lines = chunk(report, name), compare_datasets(Comparisons(results), first, second).lines
    assert found["models"] == [line.name for line in lines]
    assert [row[0] for row in found["rows"]] == pytest.approx([line.difference for line in lines])
    ids = {"x": [f"x-{n}" for n in range(20)], "y": [f"y-{n}" for n in range(25, -1, -1)]}
    here, there = ([ids[name][place] for place in places] for name, places in zip("xy", found["places"], strict=True))
    assert [name[2:] for name in here] == [name[2:] for name in there]
    assert len(here) == 20


def test_one_model_on_one_data_set_has_nothing_to_compare(tmp_path: Path) -> None:
    files = write_results(tmp_path, models=["demo_tiny"], datasets=["demo_capitals"], n=8)
    assert not (build_report("run", *files, tmp_path / "out", {}).parent / "compare.html").exists()


def test_p_values_too_small_to_scale_are_zero_and_not_unknown() -> None:
    values = compare_page._rounded(np.array([1e-310, 1e-250, 0.123456, 40.0, 0.0]))
    assert [*values] == [0.0, pytest.approx(1e-250), pytest.approx(0.123456, rel=1e-2), 40.0, 0.0]
