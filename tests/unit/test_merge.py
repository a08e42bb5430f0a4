"""The configuration is merged as Snakemake merges it."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.cli import parse_config
from snakemake.settings.types import ConfigSettings

from projects import problems, write_yaml
from shardmark import command
from shardmark.config.load import load
from shardmark.config.merge import add_config_arguments, lost_quotes, merge, merged, parse_assignments
from shardmark.errors import Problem
from shardmark.workflow.snakefile import check_command_line

SCRIPTS = Path(command.__file__).parents[1]

VALUES = [
    *("5", "-5", "05", "1_000", "1e3", "0.5", ".5", "nan", "inf", " 5 ", "0x10"),
    *("true", "True", "False", "false", "null", "~", "None", "yes", "2026-11-25"),
    *("text", "'quoted'", '"quoted"', "'", "a=b", "a, b", "a: b", "- a", "\u00e4"),
    *(
        "[a, b]",
        "[1, 2.5, true]",
        "{a: 1, b: {c: false}}",
        "{'a': 1}",
        "[",
        "{a: b",
        "*a",
        "[*a]",
        "!!int 5",
        "a: b: c",
    ),
    "",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_what_it_is_to_snakemake(value: str) -> None:
    assignments = [f"key={value}", "other=1"]
    assert repr(parse_assignments(assignments)) == repr(parse_config(assignments))  # repr: nan is not equal to itself


@pytest.mark.parametrize(
    ("assignment", "fix"),
    [
        ("model_kwargs=device_map='auto'", "write model_kwargs='{device_map: auto}'"),
        ("model_kwargs=layers=2 device_map='auto'", "write model_kwargs='{layers: 2, device_map: auto}'"),
        ("tokenizer_kwargs='a b'=1 c", "write tokenizer_kwargs='{name: value, ...}'"),
        ("system_instruction=Answer 'yes' or 'no'", "write system_instruction into a YAML file"),
        ("system_instruction='yes' or 'no'", "write system_instruction into a YAML file"),
    ],
)
def test_a_value_that_snakemake_would_cut_quotes_off_is_refused(assignment: str, fix: str) -> None:
    (problem,) = problems(parse_assignments, ["limit=1", assignment])
    assert (problem.where, problem.key) == ("--config", assignment.partition("=")[0])
    assert problem.what.startswith("Snakemake cuts quotes off the ends of ")
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize(
    "text", ["", "5", "True", "Be brief. # or not", "Be brief.\nBe kind.", "Be: brief", "[a]", "a  \n"]
)
def test_an_instruction_that_snakemake_would_change_is_refused(text: str) -> None:
    assert parse_config([f"system_instruction={text}"])["system_instruction"] != text
    (problem,) = problems(parse_assignments, [f"system_instruction={text}"])
    assert (problem.where, problem.key) == ("--config", "system_instruction")
    assert "YAML file" in problem.fix


def test_an_instruction_of_plain_words_is_taken_as_it_stands() -> None:
    text = "Answer with a letter; (A, B), \u00e4#1!"
    assert parse_assignments([f"system_instruction={text}"]) == {"system_instruction": text}


def test_only_keys_that_the_configuration_has_are_looked_at_for_lost_quotes() -> None:
    words = ["--set-resources", "a='b'c'", "--config", "run=x'", "--jobname=it's'"]
    assert [problem.key for problem in lost_quotes(words, {"run"})] == ["run"]


def test_of_two_values_the_last_counts() -> None:
    assert parse_assignments(["limit=1", "limit=2"]) == {"limit": 2} == parse_config(["limit=1", "limit=2"])


@pytest.mark.parametrize("assignment", ["limit", "=5", "5a=1", "a=1", "a-=1", "a b=1", "k: v"])
def test_what_is_no_assignment_is_refused_as_by_snakemake(assignment: str) -> None:
    with pytest.raises(ValueError, match="config"):
        parse_config([assignment])
    (problem,) = problems(parse_assignments, [assignment])
    assert (problem.where, problem.key, problem.what) == ("--config", assignment, "is not KEY=VALUE")


def test_files_and_values_are_merged_in_their_order(tmp_path: Path) -> None:
    first = {"models": ["a", "b"], "limit": 5, "model_kwargs": {"x": 1, "y": {"z": 1}}, "run": "one"}
    second = {"models": ["c"], "model_kwargs": {"y": {"w": 2}, "x": None}, "data_root": {"now": "a mapping"}}
    files = [write_yaml(tmp_path / "1.yaml", first), tmp_path / "2.json"]
    files[1].write_text(json.dumps(second))
    assignments = ["run=two", "model_kwargs={y: {z: 3}}", "data_root=a text"]
    expected = ConfigSettings(config=parse_config(assignments), configfiles=files).overwrite_config
    found = merge(files, assignments)
    assert found.config == expected
    assert found.config["model_kwargs"] == {"x": None, "y": {"z": "3", "w": 2}}
    assert (found.where, found.command_line) == (f"{files[0]} + {files[1]}", {"run", "model_kwargs", "data_root"})


def test_keys_that_snakemake_was_given_count_as_given_here(tmp_path: Path) -> None:
    """The commands that are targets get one file; what the command line chose must not be refused as idle there."""
    (tmp_path / "all.json").write_text('{"models": "gemma", "limit": 3}')
    found = merge([tmp_path / "all.json"], [], "config/config.yaml", ["models"])
    assert found.command_line >= {"models"}
    assert found.config["run"].startswith("default-gemma-")
    problems: list[Problem] = []
    again = merge([tmp_path / "all.json"], ["models=gemma"])
    assert again.config == found.config
    assert (
        load({**found.config, "models": []}, tmp_path, found.where, problems, found.command_line).run.run
        == (found.config["run"])
    )


def test_without_a_file_it_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_yaml(tmp_path / "config/config.yaml", {"limit": 7})
    assert (merge([], []).config, merge([], []).where) == ({"limit": 7}, "config/config.yaml")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "there is no such file"),
        ("a: [", "not valid YAML"),
        ("", "expected keys and values, found nothing"),
        ("- a", "expected keys and values, found list"),
        ("\udcff", "not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, what: str) -> None:
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_bytes(content.encode(errors="surrogateescape"))
    (problem,) = problems(merge, [file], [])
    assert problem.where.startswith(str(file))
    assert what in problem.what
    assert "--configfile" in problem.fix


def test_what_snakemake_is_to_read_is_checked_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    for name, what in (("none.yaml", "there is no such file"), (".", "Is a directory"), ("pipe", "not seekable")):
        with pytest.raises(SystemExit):
            check_command_line(["--cores", "1", "--configfile", str(tmp_path / name)])
        told = capsys.readouterr().err
        assert what in told
        assert "with --configfile" in told
    os.close(writer)
    for words, fix in ((["--configfile", "limit=5"], "--config limit=5"), (["-C", "a=1", "list"], "a target stands")):
        with pytest.raises(SystemExit):
            check_command_line(words)
        assert fix in capsys.readouterr().err


def test_the_options_are_spelt_as_snakemakes(tmp_path: Path) -> None:
    file = str(write_yaml(tmp_path / "run.yaml", {"limit": 7}))
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    for files, values in (("--configfile", "--config"), ("--configfiles", "-C")):
        assert merged(parser.parse_args([files, file, values, "limit=5"])).config == {"limit": 5}
    assert merged(parser.parse_args(["--configfile", file, "--called", "my run"])).where == "my run"


def test_a_command_that_merges_imports_nothing_heavy(tmp_path: Path) -> None:
    write_yaml(tmp_path / "config/config.yaml", {"limit": 7})
    heavy = "{'torch', 'pandas', 'datasets', 'transformers', 'snakemake.cli'}"
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(SCRIPTS)!r})
        from shardmark.config.merge import merge
        merge([], ["limit=5"])
        print({heavy} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
