"""Models and data sets that Shardmark ships, in a folder of the user's own; and what of them depends on the place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from projects import ROWS, plan, problems, run_config, write_dataset, write_model, write_rows, write_yaml
from shardmark.config.load import load
from shardmark.config.merge import Merged
from shardmark.config.search_path import MARK, PATHS, config_files, found_in, portable
from shardmark.errors import Problem
from shardmark.files import read_json
from shardmark.store.tasks import read_header
from shardmark.tools.needed_files import needed_files
from shardmark.tools.verify import checks_for, verify
from workflow import ROOT

OWN = {"models": ["demo_small"], "datasets": ["demo_strings"], "limit": 4}


def loaded(root: Path, **config: Any) -> tuple[Any, list[Problem]]:
    found: list[Problem] = []
    return load(run_config(root, **config), root, "config/config.yaml", found), found


def test_a_shipped_data_set_asks_the_same_from_a_clone_and_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = plan(tmp_path, **OWN)
    copied = tmp_path / "copied"
    for path in ("config/models/demo_small.yaml", "config/datasets/demo_strings.yaml"):
        write_yaml(copied / path, yaml.safe_load((ROOT / path).read_text()))
    for path in ("demo/models/small", "demo/data/strings.jsonl"):
        (copied / path).parent.mkdir(parents=True, exist_ok=True)
        (copied / path).symlink_to(ROOT / path)
    monkeypatch.chdir(copied)
    own = plan(copied, **OWN)
    assert [model.digest for model in elsewhere.models] == [model.digest for model in own.models]
    assert [dataset.digest for dataset in elsewhere.datasets] == [dataset.digest for dataset in own.datasets]
    assert [p.missing for p in elsewhere.pairs] == [p.missing for p in own.pairs]
    headers = [
        read_header(next((root / "results/tasks").glob("demo_strings@*[0-9a-f].jsonl"))) for root in (tmp_path, copied)
    ]
    assert headers[0] is not None
    assert headers[1] is not None
    assert headers[0].dataset.components == headers[1].dataset.components
    assert headers[0].settings == headers[1].settings
    assert portable(str(ROOT / "demo/data/strings.jsonl")) == portable(f"{MARK}demo/data/strings.jsonl")
    assert portable(f"{MARK}demo/models/small") == "demo/models/small"
    locks = [read_json(root / "config/benchmark.lock") for root in (tmp_path, copied)]
    for lock in locks:
        assert lock["models"]["demo_small"]["folder"]["path"] == "demo/models/small"
    assert locks[0] == locks[1]


def test_a_file_of_the_users_includes_a_shipped_one_and_its_paths(tmp_path: Path) -> None:
    write_yaml(tmp_path / "config/datasets/mine.yaml", {"include": "demo_strings", "chance": 0.5})
    benchmark, found = loaded(tmp_path, models=["demo_small"], datasets=["mine", "gsm8k_gen"])
    assert found == []
    mine, shipped = benchmark.datasets
    assert (mine.file, mine.settings.chance) == ("config/datasets/mine.yaml", 0.5)
    assert mine.settings.source.file == f"{MARK}demo/data/strings.jsonl"
    assert shipped.file == str(ROOT / "config/datasets/gsm8k_gen.yaml")


def test_a_file_of_the_users_goes_before_a_shipped_one_and_the_plan_says_so(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    own = {"include": "demo_strings", "source": {"file": str(tmp_path / "rows.jsonl")}}
    own |= {"prompt": "{{ question }}", "id_column": None}
    write_yaml(tmp_path / "config/datasets/demo_strings.yaml", own)
    made = plan(tmp_path, models=["demo_small"], datasets=["demo_strings"])
    assert made.datasets[0].samples == len(ROWS)
    (warning,) = (warning for warning in made.warnings if "it replaces" in warning.what)
    assert warning.where == "config/datasets/demo_strings.yaml"


def test_what_the_user_names_by_a_relative_path_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the installation has a file of that name, too."""
    monkeypatch.chdir(tmp_path)
    write_yaml(tmp_path / "config/models/m.yaml", {"path": "demo/models/small", "num_gpus": 0})
    found = problems(plan, tmp_path, models=["m"], datasets=["demo_strings"])
    assert any(problem.where == "config/models/m.yaml" and problem.key == "path" for problem in found)


def test_globs_mean_the_users_files_and_shipped_ones_where_there_are_none(tmp_path: Path) -> None:
    write_dataset(tmp_path, "bbh-mine")
    files = config_files("datasets", tmp_path, [])
    assert files.matching("*") == ["bbh-mine"]
    assert {"siqa_ppl", "ARC_c_ppl"} <= {*files.matching("*_ppl")}
    benchmark, _ = loaded(tmp_path, models=["demo_small"], datasets=["bbh_gen"])
    members = benchmark.groups[0].members
    assert "bbh-navigate" in members, "the globs of a shipped group mean shipped data sets"
    assert "bbh-mine" not in members


def test_problems_of_a_shipped_file_name_it_and_its_line(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    write_yaml(tmp_path / "config/datasets/mine.yaml", {"include": "demo_strings", "source": {"file": str(rows)}})
    problem, *_ = problems(plan, tmp_path, models=["demo_small"], datasets=["mine"])
    assert (problem.where, problem.key) == ("config/datasets/mine.yaml", "id_column")
    assert problem.line.startswith(f"{ROOT}/config/datasets/demo_strings.yaml:")


def test_verify_finds_what_the_lock_has_of_shipped_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan(tmp_path, **OWN)
    checks = checks_for(tmp_path / "results", tmp_path)
    assert ROOT / "demo/data/strings.jsonl" in {check.path for check in checks}
    assert list(verify(checks, tmp_path)) == []
    write_rows(tmp_path / "demo/data/strings.jsonl", ROWS)  # of the user's, and of another data set
    assert list(verify(checks_for(tmp_path / "results", tmp_path), tmp_path)) == []


def test_an_archive_has_shipped_files_as_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = run_config(tmp_path, **OWN)
    needed = needed_files(plan(tmp_path, **OWN), Merged(config, "config/config.yaml"), tmp_path)
    names = {file.name for file in needed.files if file.place == "project"}
    assert {"config/models/demo_small.yaml", "demo/data/strings.jsonl", "demo/models/small/config.json"} <= names
    assert not any(file.place == "outside" for file in needed.files)


def test_every_path_in_a_shipped_file_is_in_a_setting_that_is_known_for_one() -> None:
    for file in [*ROOT.glob("config/models/**/*.yaml"), *ROOT.glob("config/datasets/**/*.yaml")]:
        for keys, text in texts(yaml.safe_load(file.read_text())):
            assert keys in PATHS or "/" not in text or " " in text or not (ROOT / text).exists(), (
                f"{file}: {keys}: {text}"
            )


def texts(values: dict[str, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each text in nested mappings, with the keys that lead to it."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from texts(value, (*keys, key))
        elif isinstance(value, str):
            yield (*keys, key), value


def test_a_default_path_of_a_run_is_the_users_if_it_is_there(tmp_path: Path) -> None:
    assert found_in("config/lm_eval/data.yaml", tmp_path) == ROOT / "config/lm_eval/data.yaml"
    own = write_yaml(tmp_path / "config/lm_eval/data.yaml", {})
    assert found_in("config/lm_eval/data.yaml", tmp_path) == own


def test_a_model_of_the_users_own_stays_as_it_is(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d")
    assert plan(tmp_path).warnings == []
