"""Run Python in processes that have imported Snakemake, pandas and the like already: seconds less for each.

A server that has no thread and none of Shardmark's modules forks for each command line. What reads its environment
when it is imported (huggingface_hub, datasets) is left to the command itself.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = """
import json, os, runpy, sys
import numpy, pandas, pyarrow, pydantic, yaml
import jinja2.sandbox, pygments.lexers, requests, smart_open, snakemake.cli, snakemake.report

snakemake.cli.get_argument_parser()  # looks for plugins
os.fsync = lambda fd: None  # as in conftest.py
for line in sys.stdin:
    words, folder, environment, out, err = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        kinds = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
        for number, (path, kind) in enumerate(zip((os.devnull, out, err), kinds)):
            os.dup2(os.open(path, kind | os.O_APPEND), number)
        sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(":") if path not in ("", *sys.path)]
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv, sys.path[0] = words, os.path.dirname(os.path.realpath(words[0]))
            runpy.run_path(words[0], run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def _server() -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def python(
    *words: str, folder: Path, environment: dict[str, str], together: bool = False
) -> "subprocess.CompletedProcess[str]":
    """Call `python WORDS...` in a folder; with `together`, standard error comes between the lines of the output."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        if _server().poll() is not None:  # somebody has ended it
            _server.cache_clear()
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            error = out if together else err
            server.stdin.write(json.dumps([words, str(folder), environment, out.name, error.name]) + "\n")
            status = int(server.stdout.readline())
        except BaseException:  # a test that takes too long: the next one must not be given this answer
            server.kill()
            _server.cache_clear()
            raise
        return subprocess.CompletedProcess(words, status, out.read(), err.read())
