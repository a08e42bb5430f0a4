"""`list` names every model and data set, the broken ones too."""

from pathlib import Path

import pytest
from rich.console import Console

from projects import GENERATE, plan, write_dataset, write_model, write_rows, write_yaml
from shardmark.config.merge import Merged
from shardmark.tools.catalogue import Catalogue, Entry, catalogue, print_catalogue


def found(root: Path, **config: object) -> Catalogue:
    return catalogue(Merged({"results": str(root / "results"), **config}, "config/config.yaml"), root)


def by_name(listed: Catalogue) -> dict[str, Entry]:
    return {entry.name: entry for entry in listed.entries}


def test_every_file_is_listed_with_where_it_comes_from_and_whether_the_run_names_it(tmp_path: Path) -> None:
    write_model(tmp_path, "sub/small", path="weights/small", revision=None, description="a small one")
    write_model(tmp_path, "hub", path="org/model", revision="v1")
    source = {"hub": "org/data", "config": "en", "split": "test", "local": "data.jsonl"}
    write_dataset(tmp_path, "asked", source=source, **GENERATE)
    write_yaml(tmp_path / "config/datasets/hub.yaml", GENERATE | {"source": source})
    listed = found(tmp_path, models=["sm*"], datasets=["asked"]).entries
    entries = [entry for entry in listed if not Path(entry.file).is_absolute()]
    shipped = [entry for entry in listed if entry not in entries]
    assert {"demo_small", "gsm8k_gen"} <= {entry.name for entry in shipped}
    assert not any(entry.selected for entry in shipped)
    assert [(e.kind, e.name, e.file, e.selected) for e in entries] == [
        ("models", "hub", "config/models/hub.yaml", False),
        ("models", "small", "config/models/sub/small.yaml", True),
        ("datasets", "asked", "config/datasets/asked.yaml", True),
        ("datasets", "hub", "config/datasets/hub.yaml", False),
    ]
    assert [(e.about, e.source, e.description) for e in entries[:2]] == [
        ("transformers", "org/model@v1", ""),
        ("transformers", "weights/small", "a small one"),
    ]
    assert (entries[3].about, entries[3].source) == ("generate", "org/data en test (data.jsonl)")


def test_rows_are_known_from_the_lock_and_from_task_files(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d")
    assert by_name(found(tmp_path))["d"].rows is None
    plan(tmp_path)
    assert by_name(found(tmp_path))["d"].rows == 5
    (tmp_path / "config/benchmark.lock").unlink()
    assert by_name(found(tmp_path))["d"].rows == 5, "from the task file"
    plan(tmp_path)
    for task in (tmp_path / "results/tasks").iterdir():
        task.unlink()
    assert by_name(found(tmp_path))["d"].rows == 5, "from the lock"


def test_the_newest_task_file_counts(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    file = write_dataset(tmp_path, "d")
    plan(tmp_path)
    write_rows(tmp_path / "data/d.jsonl", [{"question": "q", "answer": "a"}] * 7)
    plan(tmp_path)
    assert by_name(found(tmp_path))["d"].rows == 7
    assert file.is_file()


def test_a_broken_file_is_listed_with_its_problem(tmp_path: Path) -> None:
    write_model(tmp_path, "good")
    write_yaml(tmp_path / "config/models/keys.yaml", {"path": "org/model", "nmu_gpus": 1})
    (tmp_path / "config/models/yaml.yaml").write_text("path: [")
    write_model(tmp_path, "a name")
    listed = found(tmp_path, models=["good", "keys"])
    entries = by_name(listed)
    assert entries["good"].problems == []
    assert "nmu_gpus: unknown key" in str(entries["keys"].problems[0])
    assert entries["keys"].selected
    assert "not valid YAML" in str(entries["yaml"].problems[0])
    assert "cannot be the name" in str(entries["a name"].problems[0])
    console = Console(width=200)
    with console.capture() as shown:
        print_catalogue(listed, console)
    line = next(line for line in shown.get().splitlines() if "keys.yaml" in line)
    assert line.split()[:4] == ["*", "keys", "config/models/keys.yaml", "broken"]
    assert "fix: did you mean 'num_gpus'?" in shown.get()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"models": ["goof"]}, "config/config.yaml: models: no file config/models/goof.yaml"),
        ({"modles": ["good"]}, "config/config.yaml: modles: unknown key"),
    ],
)
def test_a_run_that_selects_nothing_is_named_beside_the_files(
    tmp_path: Path, config: dict[str, object], problem: str
) -> None:
    write_model(tmp_path, "good")
    listed = found(tmp_path, **config)
    assert [str(p).partition("\n")[0] for p in listed.problems] == [problem]
    assert by_name(listed)["good"].problems == []


def test_markup_in_a_description_is_text(tmp_path: Path) -> None:
    write_model(tmp_path, "m", path="org/model", description="[red]not red[/red] [/]")
    console = Console(width=200)
    with console.capture() as shown:
        print_catalogue(found(tmp_path), console)
    assert "[red]not red[/red] [/]" in shown.get()


def shown(listed: Catalogue, words: tuple[str, ...] = (), topics: tuple[str, ...] = ()) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        print_catalogue(listed, console, words, topics)
    return captured.get()


def test_data_sets_stand_by_topic_and_can_be_searched(tmp_path: Path) -> None:
    for name, topic in (("b_sums", "mathematics"), ("a_sums", "mathematics"), ("facts", "knowledge")):
        file = write_dataset(tmp_path, name)
        write_yaml(file, GENERATE | {"source": {"file": "x"}, "topics": [topic], "description": f"about {name}"})
    write_dataset(tmp_path, "other")
    listed = found(tmp_path)
    lines = [line.split()[0] for line in shown(listed).splitlines() if line.strip() and not line.startswith("0")]
    order = [
        word for word in lines if word in ("knowledge", "mathematics", "others", "facts", "a_sums", "b_sums", "other")
    ]
    assert order == ["knowledge", "facts", "mathematics", "a_sums", "b_sums", "others", "other"]
    assert shown(listed, ("nowhere",)).startswith("nothing has all of these words")
    assert "demo_small" in shown(listed)
    assert "b_sums" not in shown(listed, ("SUMS", "about a"))
    assert "a_sums" in shown(listed, ("SUMS", "about a"))
    only = shown(listed, topics=("knowledge",))
    assert ("facts" in only, "_sums" in only, "demo_small" in only) == (True, False, False)


def test_a_file_with_parts_is_one_line_and_its_parts_may_be_named(tmp_path: Path) -> None:
    keys = GENERATE | {"source": {"file": "data/${name}.jsonl"}, "parts": ["de", "fr"], "description": "sums"}
    write_yaml(tmp_path / "config/datasets/sums.yaml", keys)
    listed = found(tmp_path, datasets=["sums.fr"])
    entry = by_name(listed)["sums"]
    assert (entry.parts, entry.selected, entry.description) == (("sums.de", "sums.fr"), True, "sums")
    assert listed.problems == []
    assert "generate, 2 parts" in shown(listed)
    assert "no file" in str(found(tmp_path, datasets=["sums.it"]).problems[0])


def test_suites_are_listed_and_what_they_name_is_selected(tmp_path: Path) -> None:
    write_dataset(tmp_path, "d")
    write_yaml(tmp_path / "config/suites/small.yaml", {"description": "a few", "datasets": ["d"]})
    listed = found(tmp_path, datasets=["suite/small"])
    assert by_name(listed)["d"].selected
    assert ([suite.name for suite in listed.suites if suite.selected], listed.problems) == (["suite/small"], [])
    assert "suite/small" in shown(listed)
    write_yaml(tmp_path / "config/suites/small.yaml", {"datasets": ["e"]})
    assert "config/suites/small.yaml: datasets: no file" in str(found(tmp_path, datasets=["suite/small"]).problems[0])
