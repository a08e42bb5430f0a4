"""Two models on the same samples: the tests are those of scipy and statsmodels."""

import random
from pathlib import Path

import pytest
from scipy import stats

from shardmark.records.score import Metric
from shardmark.report.leaderboard import rank_models
from shardmark.report.paired import SampleScores, independent, mean_difference, paired
from shardmark.report.results import read_results
from unit.report.fake_results import Files, make_metric, make_samples, make_scores, write_pair


def scores(values: list[float], clusters: list[str] | None = None) -> SampleScores:
    names = [f"s{n}" for n in range(len(values))]
    return SampleScores(
        dict(zip(names, values, strict=True)), dict(zip(names, clusters, strict=True)) if clusters else None
    )


def metric(value: float | None, stderr: float | None = 0.02) -> Metric:
    return make_metric(value, stderr=stderr)


def test_right_and_wrong_are_compared_by_mcnemars_exact_test() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    both, only_one, only_other, none = 40, 9, 2, 30
    one = [1.0] * both + [1.0] * only_one + [0.0] * only_other + [0.0] * none
    other = [1.0] * both + [0.0] * only_one + [1.0] * only_other + [0.0] * none
    found = paired(scores(one), scores(other))
    assert found.value == pytest.approx(7 / 81)
    assert found.p == pytest.approx(mcnemar([[both, only_one], [only_other, none]], exact=True).pvalue)


def test_other_scores_are_compared_by_students_paired_test() -> None:
    draw = random.Random(0)
    one = [draw.random() for _ in range(30)]
    other = [0.7 * x + 0.2 * draw.random() for x in one]
    found, theirs = paired(scores(one), scores(other)), stats.ttest_rel(one, other)
    assert found.p == pytest.approx(float(theirs.pvalue))
    assert found.value / (found.stderr or 0) == pytest.approx(float(theirs.statistic))


def test_samples_of_a_cluster_count_as_one() -> None:
    one, other, names = [1.0, 0.0, 1.0, 1.0, 0.5], [0.0, 0.0, 1.0, 0.0, 0.0], list("abcde")
    thrice = paired(scores(one * 3, names * 3), scores(other * 3, names * 3))
    assert thrice.p == pytest.approx(float(stats.ttest_rel(one, other).pvalue))


def test_equal_answers_are_alike_and_few_differences_prove_nothing() -> None:
    assert paired(scores([1.0, 0.0]), scores([1.0, 0.0])).p == 1
    assert paired(scores([0.5, 0.2]), scores([0.5, 0.2])).p == 1
    assert paired(scores([1.0] * 5), scores([0.0] * 5)).p == pytest.approx(2 * 0.5**5)
    assert paired(scores([0.75]), scores([0.25])).p == 1
    assert paired(scores([0.75] * 4), scores([0.25] * 4)).p == 0


def test_independent_estimates_are_compared_by_walds_test() -> None:
    """1.96 * 0.02 * sqrt(2) = 0.0554; their intervals overlap in both cases."""
    assert independent(metric(0.50), metric(0.57)).p < 0.05 < independent(metric(0.50), metric(0.555)).p
    assert independent(metric(0.5, None), metric(0.5001)).p == 0
    assert independent(metric(0.5, None), metric(0.5, None)).p == 1
    assert independent(metric(None), metric(0.5)).p == 0


def test_differences_on_data_sets_are_averaged_with_their_errors() -> None:
    mean = mean_difference(
        [independent(metric(0.6, 0.0), metric(0.5, 0.03)), independent(metric(0.6, 0.04), metric(0.6, 0))]
    )
    assert (mean.value, mean.stderr) == (pytest.approx(0.05), pytest.approx(0.025))
    assert mean.p == pytest.approx(float(2 * stats.norm.sf(2)))


@pytest.mark.parametrize("with_samples", [True, False])
def test_models_that_differ_on_the_same_samples_are_told_apart_where_their_intervals_are_wide(
    tmp_path: Path, with_samples: bool
) -> None:
    files = Files([], [])
    for model, wrong in (("a", range(30)), ("b", range(42))):  # of 100; b is wrong wherever a is
        samples = make_samples(model, "demo_arithmetic", 100)
        for n, sample in enumerate(samples):
            sample["scores"]["accuracy"] = float(n not in wrong)
        write_pair(tmp_path, files, make_scores(model, "demo_arithmetic", samples), samples)
    board = rank_models(read_results(files.scores, files.samples if with_samples else []))
    other = "" if with_samples else "tied"
    assert [row.standing for row in board.rows] == ["best", other]
    assert [cell.standing for cell in board.cells(board.columns[0])] == ["best", other]
