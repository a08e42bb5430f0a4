"""What a command says when it fails: a message on standard error, the traceback in the log."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shardmark import command

SCRIPTS = Path(command.__file__).parents[1]

COMMAND = """
import argparse, errno, logging, os, sys, warnings
from shardmark.command import run_command
from shardmark.errors import Problem, UserError

def main(arguments):
    logging.getLogger("shardmark.demo").info("it begins")
    warnings.warn("take care")
    print(arguments.value)
    if arguments.value == "user":
        raise UserError([Problem("a.yaml", "path", "is wrong", "mend it"), Problem("b.yaml", "", "is wrong, too")])
    if arguments.value == "bug":
        raise KeyError("missing_key")
    if arguments.value == "path":
        open("no/such/file")
    if arguments.value == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/x")
    if arguments.value == "interrupt":
        raise KeyboardInterrupt
    if arguments.value == "exit":
        sys.exit(3)

parser = argparse.ArgumentParser(prog="demo.py")
parser.add_argument("value")
run_command(parser, main)
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs/deep/demo.log"


def test_a_command_that_works_says_nothing_of_its_own(log: Path) -> None:
    done = run("fine", "--log", log)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_messages_and_warnings_go_to_the_log(log: Path) -> None:
    run("fine", "--log", log)
    assert "INFO shardmark.demo: it begins" in log.read_text()
    assert "take care" in log.read_text()


def test_a_users_mistake_is_a_message_without_a_traceback(log: Path) -> None:
    done = run("user", "--log", log)
    assert done.returncode == 1
    assert done.stderr == "a.yaml: path: is wrong\n    fix: mend it\nb.yaml: is wrong, too\n"
    assert "b.yaml: is wrong, too" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_any_other_error_is_one_line_and_its_traceback_is_in_the_log(log: Path) -> None:
    done = run("bug", "--log", log)
    assert done.returncode == 1
    assert done.stderr == f"demo.py: KeyError: 'missing_key'; the traceback is in {log}\n"
    assert "Traceback (most recent call last)" in log.read_text()
    assert "KeyError: 'missing_key'" in log.read_text()


def test_without_a_log_a_mistake_is_told_once() -> None:
    done = run("user")
    assert done.returncode == 1
    assert done.stderr.count("a.yaml: path: is wrong") == 1
    assert "Traceback" not in done.stderr


def test_without_a_log_the_traceback_is_shown() -> None:
    done = run("bug")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("demo.py: KeyError: 'missing_key'\n")


def test_a_path_that_leads_nowhere_is_a_message_for_who_typed_it_and_a_traceback_in_a_jobs_log(log: Path) -> None:
    told = run("path").stderr.partition("no/such/file")
    assert (told[0].count("Traceback"), told[2]) == (0, ": No such file or directory\n    fix: correct the path\n")
    assert "Traceback" in (run("path", "--log", log), log.read_text())[1]


def test_a_full_disk_is_a_message_also_in_the_log(log: Path) -> None:
    assert run("full", "--log", log).stderr.startswith("results/x: No space left on device\n    fix: free some disk")
    assert "Traceback" not in log.read_text()


def test_a_new_run_starts_a_new_log(log: Path) -> None:
    run("bug", "--log", log)
    run("fine", "--log", log)
    assert "KeyError" not in log.read_text()


def test_an_exit_code_of_its_own_is_kept(log: Path) -> None:
    assert run("exit", "--log", log).returncode == 3


def test_wrong_arguments_are_told_with_the_usage() -> None:
    done = run()
    assert done.returncode == 2
    assert "usage: demo.py" in done.stderr


def test_an_interrupt_ends_a_command_without_a_word() -> None:
    done = run("interrupt")
    assert "Traceback" not in done.stderr
    assert done.returncode == -signal.SIGINT
