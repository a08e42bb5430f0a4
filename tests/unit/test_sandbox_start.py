"""A sandbox that does not start is no verdict, and the verdict is the same whoever scores, on whatever machine."""

import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from requirements_check import need
from shardmark.errors import UserError
from shardmark.untrusted import bwrap, sandbox
from shardmark.untrusted.sandbox import Limits, run_programs

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PYTHON = "/usr/bin/python3"
"One that all users can run."
TESTS = "assert one() == 1"
PROGRAMS = {
    "plain": ("def one(): return 1", True),
    "wrong": ("def one(): return 2", False),
    "devices": (
        "import os\ndef one():\n    open(os.devnull, 'w').write('x')\n    assert open(os.devnull).read() == ''\n"
        "    assert open('/dev/zero', 'rb').read(3) == bytes(3)\n    return len(open('/dev/urandom', 'rb').read(1))\n",
        True,
    ),
    "disk": ("def one():\n    try: open('/dev/sda')\n    except OSError: return 1\n", True),
    "threads": (
        "import concurrent.futures as c\ndef one():\n"
        "    with c.ThreadPoolExecutor(4) as pool: return sum(pool.map(int, '1000'))\n",
        True,
    ),
    "processes": ("import subprocess\ndef one(): return int(subprocess.check_output(['echo', '1']))\n", True),
    "scratch": (
        "import os, tempfile\ndef one():\n    with tempfile.NamedTemporaryFile('w+') as f:\n        f.write('1')\n"
        "        f.seek(0)\n        assert os.stat(f.name).st_mode & 0o777 == 0o600\n        return int(f.read())\n",
        True,
    ),
    "umask": (
        "import os\ndef one():\n    open('x', 'w').close()\n    return os.stat('x').st_mode & 0o777 == 0o644\n",
        True,
    ),
    "place": ("import os\ndef one(): return (os.getcwd(), os.path.expanduser('~')) == ('/tmp', '/home')\n", True),
    "time zone": ("import time\ndef one(): return time.tzname == ('UTC', 'UTC') and time.timezone == 0\n", True),
    "locale": (
        "import locale\ndef one(): return '\\u00e9'.encode(locale.getpreferredencoding()) == b'\\xc3\\xa9'\n",
        True,
    ),
    "hash seed": ("def one(): return hash('seed') == {hash}\n", True),
    "environment": (
        "import os\ndef one():\n"
        "    return set(os.environ) <= {'HOME', 'LANG', 'LC_CTYPE', 'PATH', 'PWD', 'PYTHONHASHSEED'}\n",
        True,
    ),
    "signals": (
        "import os, signal\ndef one():\n    signal.signal(signal.SIGALRM, lambda *a: None)\n    signal.alarm(1)\n"
        "    signal.pause()\n    return signal.getsignal(signal.SIGHUP) == signal.SIG_DFL\n",
        True,
    ),
    "files": ("def one():\n    held = [open('/dev/null') for _ in range(40)]\n    return len(held) == 40\n", True),
    "deep": ("def one():\n    def f(n): return 1 if n == 0 else f(n - 1)\n    return f(900)\n", True),
    "standard streams": (
        "import sys\ndef one():\n    print('x', file=sys.stderr)\n    print(sys.stdin.read())\n    return 1\n",
        True,
    ),
}
CODE = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from shardmark.errors import UserError
from shardmark.untrusted import sandbox
from shardmark.untrusted.sandbox import Limits, run_programs
sandbox.LONGEST_PAUSE = 0.1
try:
    verdicts = run_programs([tuple(job) for job in json.loads(sys.argv[2])], Limits(5, 512))
    print(json.dumps([[v.passed, v.why] for v in verdicts]))
except UserError as error:
    print(json.dumps(str(error.problems[0])))
"""


@pytest.fixture(scope="module")
def library() -> Iterator[str]:
    """What of the library the sandbox needs, where all users can read it."""
    need("bwrap")
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    shutil.copytree(SCRIPTS / "shardmark", folder / "shardmark", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield str(folder)
    shutil.rmtree(folder)


def jobs(python: str = PYTHON) -> list[tuple[str, str]]:
    seed = {"PYTHONHASHSEED": "0"}
    command = [python, "-c", "print(hash('seed'))"]
    number = subprocess.run(command, env=seed, capture_output=True, text=True, check=True).stdout.strip()
    return [(program.replace("{hash}", number), TESTS) for program, _ in PROGRAMS.values()]


def scored(library: str, prefix: list[str] = [], python: str = PYTHON, **how: Any) -> Any:  # noqa: B006
    """What a process started so gets for the programs, or what it is told."""
    command = [*prefix, python, "-c", CODE, json.dumps([library]), json.dumps(jobs(python))]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=400, **{"cwd": "/"} | how)
    return json.loads(ended.stdout)


def check(verdicts: Any) -> None:
    assert isinstance(verdicts, list), verdicts
    found = {name: passed for name, (passed, _) in zip(PROGRAMS, verdicts, strict=True)}
    assert found == {name: right for name, (_, right) in PROGRAMS.items()}, verdicts


def as_user(user: int) -> list[str]:
    if os.geteuid():
        pytest.skip("only root can become another user")
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


@pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python that all users can run")
@pytest.mark.parametrize("user", [None, *(pytest.param(user, marks=pytest.mark.slow) for user in (65534, 1000))])
def test_all_users_get_the_same_verdicts(library: str, user: int | None) -> None:
    check(scored(library, [] if user is None else as_user(user)))


SURROUNDINGS: dict[str, dict[str, Any]] = {
    "closed stdin": {"prefix": ["sh", "-c", 'exec "$@" <&-', "sh"]},
    "nothing in the environment": {"prefix": ["env", "-i"]},
    "odd locale, zone, home and seed": {
        "env": {"LC_ALL": "POSIX", "LANG": "xx", "TZ": "Asia/Tokyo", "HOME": "/none", "PYTHONHASHSEED": "7"}
        | {"PYTHONPATH": "/none", "PYTHONSTARTUP": "/none", "PYTHONIOENCODING": "latin-1", "PATH": "/usr/bin:/bin"}
    },
    "tight umask": {"umask": 0o777},
    "ignored and blocked signals": {
        "prefix": ["env", "--ignore-signal=HUP", "--ignore-signal=ALRM", "--block-signal=ALRM", "--block-signal=TERM"]
    },
    "large stack": {"prefix": ["sh", "-c", 'ulimit -s unlimited; exec "$@"', "sh"]},
    "many files": {"prefix": ["sh", "-c", 'ulimit -n 4096; exec "$@"', "sh"]},
    "small soft limits": {"prefix": ["sh", "-c", 'ulimit -S -n 80 -t 300 -c 0 -f 100000; exec "$@"', "sh"]},
}


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python that all users can run")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_surrounds_the_scorer_changes_no_verdict(library: str, name: str) -> None:
    check(scored(library, **SURROUNDINGS[name]))


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python that all users can run")
def test_a_folder_that_is_gone_changes_no_verdict(library: str, tmp_path: Path) -> None:
    check(scored(library, ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"], cwd=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("most", [3, 6, 12, 17, 24])
@pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python that all users can run")
def test_too_few_processes_are_an_error_and_no_verdict(library: str, most: int) -> None:
    """As an ordinary user; whatever number is enough gives the right verdicts."""
    found = scored(library, [*as_user(4321), "prlimit", f"--nproc={most}"])
    if isinstance(found, str):
        assert "ulimit" in found
        assert "did not start" in found
    else:
        check(found)


@pytest.mark.slow
@pytest.mark.parametrize("most", [*range(5, 16), 20, 30, 60])
@pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python that all users can run")
def test_too_few_files_are_an_error_and_no_verdict(library: str, most: int) -> None:
    found = scored(library, ["prlimit", f"--nofile={most}"])
    assert isinstance(found, str)
    assert "did not start" in found
    assert "ulimit" in found


@pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python that all users can run")
def test_where_the_second_process_cannot_be_started_it_ends_with_an_error(library: str) -> None:
    assert "did not start" in scored(library, ["prlimit", "--nofile=12"])


def failing(folder: Path, body: str) -> str:
    """A bwrap that does something before it is itself."""
    real = shutil.which("bwrap")
    path = folder / "bwrap"
    path.write_text(f'#!/bin/sh\n{body}\nexec {real} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    need("bwrap")
    monkeypatch.setattr(sandbox, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sandbox, "LONGEST_PAUSE", 0.01)
    for cached in (bwrap._sandbox, sandbox.require_sandbox):
        cached.cache_clear()
    yield
    for cached in (bwrap._sandbox, sandbox.require_sandbox):
        cached.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_one_start_in_four_that_fails_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tmp_path / "count"
    body = f'echo >> {count}; [ $(( $(wc -l < {count}) % 4 )) = 0 ] && {{ echo "bwrap: no luck" >&2; exit 1; }}'
    monkeypatch.setenv("PATH", failing(tmp_path, body))
    found = run_programs([(f"def one(): return {n % 2}", TESTS) for n in range(8)], Limits(2, 512))
    assert [each.passed for each in found] == [False, True] * 4
    found = run_programs([(f"def one(): return {n}", TESTS) for n in range(4)], Limits(2, 512))
    assert [each.passed for each in found] == [False, True, False, False]


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("part", ["def begin", "started = PROGRAM"], ids=["both", "program"])
def test_a_sandbox_that_never_starts_is_an_error_with_its_cause(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.require_sandbox()
    bwrap._sandbox.cache_clear()
    only = 'case "$*" in *"The program\'s side"*) ' if "PROGRAM" in part else "case x in x) "
    monkeypatch.setenv("PATH", failing(tmp_path, f'{only} echo "bwrap: out of luck" >&2; exit 1;; esac'))
    with pytest.raises(UserError, match=r"did not start in 12 tries: bwrap: out of luck") as raised:
        run_programs([("def one(): return 1", TESTS)], Limits(2, 512))
    assert "ulimit" in raised.value.problems[0].fix


@pytest.mark.usefixtures("_fresh")
def test_a_sandbox_that_gives_no_sign_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.require_sandbox()
    bwrap._sandbox.cache_clear()
    monkeypatch.setattr(bwrap, "START_SECONDS", 0.2)
    monkeypatch.setattr(sandbox, "TRIES", 2)
    monkeypatch.setenv("PATH", failing(tmp_path, "exec sleep 100"))
    with pytest.raises(UserError, match=r"did not respond in 0\.2 s"):
        run_programs([("def one(): return 1", TESTS)], Limits(2, 512))


@pytest.mark.usefixtures("_fresh")
def test_a_limit_that_cannot_be_set_is_named(library: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n{CODE}"
    command = [sys.executable, "-c", code, json.dumps([library]), json.dumps([["def one(): return 1", TESTS]])]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=100).stdout)
    assert "RLIMIT_FSIZE must be 16777216 in the sandbox, and is at most 1048576 here" in found
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard


def test_a_sandbox_that_is_ended_while_it_starts_leaves_no_process() -> None:
    """bwrap's process inside waits for the one outside before it can notice that this has ended."""
    need("bwrap")

    groups = set[int]()

    def left() -> list[int]:
        found = []
        for one in psutil.process_iter(["status"]):
            with suppress(OSError):
                if one.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(one.pid) in groups:
                    found.append(one.pid)
        return found

    for number in range(60):
        ours, theirs = socket.socketpair()
        with ours, theirs, bwrap.started("program", theirs, Limits()) as part:
            groups.add(part.process.pid)
            time.sleep(number / 3000)
            part.end()
    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left()
