"""Common code of the thin commands in scripts/: a log file, and errors as messages instead of tracebacks."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from shardmark.errors import UserError, disk_problem, path_problem
from shardmark.printable import printable, redacted


def _say_what_failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an unhandled error as Python does, but keep silent about an interrupt: the user knows of that."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _say_what_failed  # here, since a command's next imports take longer than much of its work


class Redacting(logging.Formatter):
    """Formats log lines, tracebacks included, without tokens and passwords."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a line."""
        return redacted(super().format(record))


def run_command(parser: argparse.ArgumentParser, function: Callable[[argparse.Namespace], None]) -> None:
    """Parse the arguments, call the function, and exit non-zero with a message if it fails.

    With `--log FILE`, everything that is logged or warned goes there, tracebacks included; messages for the user also
    go to standard error. Without it, warnings go there.
    """
    parser.add_argument("--log", type=Path, help="file for messages and tracebacks")
    arguments = parser.parse_args()
    try:
        if arguments.log:
            arguments.log.parent.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            filename=arguments.log,
            filemode="w",
            level=logging.INFO if arguments.log else logging.WARNING,
        )
        for handler in logging.getLogger().handlers:
            handler.setFormatter(Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    except OSError as error:
        sys.exit(str(disk_problem(error, arguments.log) or error))
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback per line
    try:
        function(arguments)
    except UserError as error:
        if arguments.log:
            for problem in error.problems:
                logging.error("%s", problem)
        sys.exit("\n".join(str(problem) for problem in error.problems))
    except Exception as error:
        known = disk_problem(error, "the results folder") if isinstance(error, OSError) else None
        if isinstance(error, OSError) and not arguments.log:  # called by the user, whose arguments name files
            known = known or path_problem(error)
        if known:
            if arguments.log:
                logging.error("%s", known)
            sys.exit(str(known))
        logging.exception("failed")
        hint = f"; the traceback is in {arguments.log}" if arguments.log else ""
        sys.exit(printable(redacted(f"{parser.prog}: {type(error).__name__}: {error}{hint}")))
