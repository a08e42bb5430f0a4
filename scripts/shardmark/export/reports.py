"""The report that a command is about: a named one, or the newest of a run."""

import argparse
from pathlib import Path

from shardmark.config.merge import add_config_arguments, merged
from shardmark.config.run import RunConfig
from shardmark.errors import Problem, UserError


def add_report_argument(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that select its report: a folder, or a run's configuration."""
    add_config_arguments(parser)
    named = "folder of a report, such as results/reports/demo (default: the newest of the configured run)"
    parser.add_argument("--report", type=Path, metavar="FOLDER", help=named)


def report_of(arguments: argparse.Namespace) -> Path:
    """The report that the options select; for a run's name, a link to its newest one. Raises UserError."""
    if arguments.report:
        if arguments.configfile or arguments.config:
            raise UserError(Problem("--report", "", "given with a configuration, which names another", "keep one"))
        return Path(arguments.report)
    results, name = run_of(arguments)
    return results / "reports" / name


def run_of(arguments: argparse.Namespace) -> tuple[Path, str]:
    """The results folder and the name of the run that a command's options configure. Raises UserError."""
    config = merged(arguments).config
    results, name = (config.get(key, RunConfig.model_fields[key].default) for key in ("results", "run"))
    return Path(str(results)), str(name)
