"""Which requests an audit infers again."""

import random
from collections import Counter
from pathlib import Path

import pytest

import projects
from projects import problems
from shardmark.plan.pairs import score_files
from shardmark.plan.plan import Plan
from shardmark.tools.audit import draw
from shared_stores import Person, answer, person


def scored(someone: Person) -> Plan:
    """A plan whose pairs have been answered and scored."""
    someone.infer()
    for pair in someone.plan().pairs:
        for file in score_files(someone.root / "results", pair.model, pair.dataset):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text("{}")
    return someone.plan()


@pytest.fixture
def someone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    return person(tmp_path / "here", "a", str(tmp_path / "store"), monkeypatch, projects.many_rows(40))


def test_each_request_is_as_likely_as_any_other_and_drawn_once(someone: Person) -> None:
    plan = scored(someone)
    drawn = Counter(chosen.key for seed in range(60) for chosen in draw(plan, 10, random.Random(seed)))
    assert len(drawn) == 40
    assert max(drawn.values()) < 35
    every = draw(plan, 1000, random.Random(0))
    assert len({chosen.key for chosen in every}) == len(every) == 40
    assert all(chosen.before == answer(chosen.key) for chosen in every)
    assert [c.key for c in draw(plan, 5, random.Random(3))] == [c.key for c in draw(plan, 5, random.Random(3))]


def test_without_scores_or_predictions_there_is_nothing_to_compare(someone: Person) -> None:
    (problem,) = problems(draw, someone.plan(), 5, random.Random(0))
    assert "nothing of this run is scored yet" in problem.what
    plan = scored(someone)
    someone.files()[0].unlink()
    (problem,) = problems(draw, plan, 5, random.Random(0))
    assert "gone or damaged" in problem.what
