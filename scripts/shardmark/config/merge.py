"""The configuration of a run, merged as by Snakemake, for commands that run without Snakemake.

Files are read and merged by Snakemake's own functions. `--config` is parsed here, by its rules: its parser belongs to
its command line, whose imports take seconds. A test compares the two.
"""

import argparse
import json
import os
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from shardmark.config.load import COMMAND_LINE
from shardmark.config.offline import use_offline
from shardmark.config.one_off import one_off_name
from shardmark.config.run import spelt_mapping
from shardmark.config.yaml_files import load_yaml, yaml_problem
from shardmark.errors import Problem, UserError

DEFAULT = Path("config/config.yaml")
NAME_ANOTHER = "correct it, or name another YAML or JSON file with --configfile"
WHERE = (
    "name another file with --configfile, which stands after the targets; or let `shardmark init` make a folder with "
    "everything that a run needs"
)
KEY = re.compile(r"[a-zA-Z_][\w-]*\w$")
"Keys that Snakemake accepts."
QUOTES = "'\""
LISTS = {"models", "datasets"}
MAPPINGS = {"model_kwargs", "tokenizer_kwargs", "gen_kwargs", "lm_eval_metadata"}

TEXTS = {"system_instruction"}
"Keys whose values are passed to models verbatim."


@dataclass(frozen=True)
class Merged:
    """A run's configuration and its origin."""

    config: dict[str, Any]
    where: str
    "Its name in messages."
    command_line: frozenset[str] = frozenset()
    "The keys that `--config` gave."


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that select its run, spelt as Snakemake's."""
    files = f"configuration of the run (default: {DEFAULT}); if there are several, later ones override earlier ones"
    parser.add_argument("--configfile", "--configfiles", type=Path, nargs="+", default=[], metavar="FILE", help=files)
    values = "values that override those of the files"
    parser.add_argument("--config", "-C", nargs="*", default=[], metavar="KEY=VALUE", help=values)
    # For targets, which pass on their run: what to call it in messages, and which keys of FILE the command line gave.
    parser.add_argument("--called", help=argparse.SUPPRESS)
    parser.add_argument("--given", default="", help=argparse.SUPPRESS)


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command for where jobs would run, spelt as Snakemake's."""
    cores = "cores for jobs on this machine, which must then have enough GPUs (default: all, unless --jobs is given)"
    parser.add_argument("--cores", type=int, help=cores)
    parser.add_argument("--jobs", type=int, help="most jobs at once, as on a cluster")


def cores_of(arguments: argparse.Namespace) -> int | None:
    """How many cores of this machine jobs may use; None if they run elsewhere."""
    return arguments.cores or (None if arguments.jobs else os.cpu_count())


def merged(arguments: argparse.Namespace) -> Merged:
    """The configuration given by the options of `add_config_arguments`; its `offline` applies from now on.

    Raises UserError.
    """
    keys = filter(None, arguments.given.split(","))
    run = merge(arguments.configfile, arguments.config, arguments.called, keys)
    use_offline(run.config)
    return run


def merge(
    files: Iterable[Path], assignments: Iterable[str], called: str | None = None, keys: Iterable[str] = ()
) -> Merged:
    """The values of the files, overridden by those of `KEY=VALUE`; `keys` of the files count as given so, too.

    A one-off run has its name in them. Raises UserError.
    """
    from snakemake.utils import update_config

    files = list(files) or [DEFAULT]
    config: dict[str, Any] = {}
    for file in files:
        update_config(config, _read(file))
    assigned = parse_assignments(assignments)
    update_config(config, assigned)
    given = {*assigned, *keys}
    if (name := one_off_name(config, given)) != config.get("run", "default"):
        config["run"] = name
        given.add("run")  # it is not to be made a name again
    return Merged(config, called or " + ".join(map(str, files)), frozenset(given))


def _read(file: Path) -> dict[str, Any]:
    from snakemake.common.configfile import load_configfile
    from snakemake_interface_common.exceptions import WorkflowError

    check_file(file)
    try:
        return dict(load_configfile(file))
    except (WorkflowError, OSError, ValueError, RecursionError) as error:
        raise UserError(Problem(str(file), "", f"cannot be read: {error}", NAME_ANOTHER)) from error


def check_file(file: Path) -> None:
    """Raise UserError for a file that is missing, no YAML (JSON is), no mapping or too large.

    Snakemake would not name the file.
    """
    values: Any = {}
    try:
        with file.open("rb") as stream:
            stream.seek(0)  # Snakemake does, which is an error for a pipe
            values = load_yaml(stream.read())
    except FileNotFoundError as error:
        fix = f"write {COMMAND_LINE} {file}" if "=" in file.name else WHERE
        raise UserError(Problem(str(file), "", f"there is no such file in {Path.cwd()}", fix)) from error
    except OSError as error:
        raise UserError(Problem(str(file), "", f"cannot be read: {error.strerror or error}", NAME_ANOTHER)) from error
    except yaml.YAMLError as error:
        if not _is_json(file):
            raise UserError(replace(yaml_problem(error, str(file)), fix=NAME_ANOTHER)) from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise UserError(Problem(str(file), "", f"expected keys and values, found {found}", NAME_ANOTHER))


def _is_json(file: Path) -> bool:
    """Whether a file is JSON that Snakemake reads; YAML does not cover all of it, such as tabs."""
    try:
        json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """The values of `KEY=VALUE`: a number, True or False, or YAML whose scalars are texts. Raises UserError."""
    assignments = list(assignments)
    if problems := [*lost_quotes(assignments), *no_assignments(assignments)]:
        raise UserError(problems)
    pairs = (assignment.partition("=") for assignment in assignments)
    return {key: _value(text.strip(QUOTES)) for key, _, text in pairs}


def no_assignments(words: Iterable[str]) -> list[Problem]:
    """A problem for each word that is not `KEY=VALUE`."""
    fix = f"write {COMMAND_LINE} limit=50; a target stands before {COMMAND_LINE}"
    pairs = ((word, *word.partition("=")) for word in words)
    return [
        Problem(COMMAND_LINE, word, "is not KEY=VALUE", fix)
        for word, key, separator, _ in pairs
        if not (separator and KEY.match(key))
    ]


def lost_quotes(words: Iterable[str], keys: Collection[str] | None = None) -> list[Problem]:
    """A problem for each `KEY=VALUE` among the words of a command line whose value Snakemake would change.

    Snakemake strips quotes from both ends of a value, whether they belong together or not. `keys` are the only ones to
    check; None for all.
    """
    pairs = (word.partition("=") for word in words)
    given = [(key, text) for key, separator, text in pairs if separator and (keys is None or key in keys)]
    cut = [(key, text) for key, text in given if key not in LISTS and _loses_quotes(text)]
    return [
        *(
            Problem(COMMAND_LINE, k, f"Snakemake cuts quotes off the ends of {v}", _without_quotes(k, v))
            for k, v in cut
        ),
        *(_misread(key, text) for key, text in given if key in TEXTS and (key, text) not in cut and _is_misread(text)),
    ]


def _is_misread(value: str) -> bool:
    """Whether Snakemake reads a text differently, as YAML: comments are dropped, and lines are joined."""
    return bool(_value(value.strip(QUOTES)) != value.strip(QUOTES))


def _misread(key: str, value: str) -> Problem:
    what = f"Snakemake reads {value!r} as YAML, which is {_value(value.strip(QUOTES))!r}"
    return Problem(COMMAND_LINE, key, what, f"write {key} into a YAML file, and name that with --configfile")


def _loses_quotes(value: str) -> bool:
    inner = value.strip(QUOTES)
    before, after = value[: value.find(inner)], value[value.find(inner) + len(inner) :]
    return bool(inner) and (before != after[::-1] or any(quote in inner for quote in before))


def _without_quotes(key: str, value: str) -> str:
    if key in MAPPINGS:
        try:
            form = yaml.safe_dump(spelt_mapping(value), default_flow_style=True, width=10**6, sort_keys=False)
            return f"write {key}={shlex.quote(form.strip())}"
        except ValueError:
            return f"write {key}='{{name: value, ...}}'"
    return f"write {key} into a YAML file, and name that with --configfile"


def _value(text: str) -> Any:
    if text in ("True", "False", ""):
        return {"True": True, "False": False}.get(text)
    for parse in (int, float, _yaml):
        try:
            return parse(text)
        except (ValueError, yaml.YAMLError):
            continue
    return text


def _yaml(text: str) -> Any:
    return load_yaml(text, yaml.BaseLoader)
