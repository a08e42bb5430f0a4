"""Generated programs are run, and can neither do harm nor pass what they do not solve."""

import os
import platform
import subprocess
import sys
import textwrap
import time
import venv
from pathlib import Path

import psutil
import pytest

from requirements_check import need
from shardmark.errors import UserError
from shardmark.metrics import METRICS
from shardmark.untrusted import bwrap, sandbox
from shardmark.untrusted.sandbox import Limits, Verdict, run_programs
from shardmark.untrusted.templates import RenderError

TESTS = "assert one() == 1\nassert twice(21) == 42"
RIGHT = "def one():\n    return 1\n\ndef twice(x):\n    return 2 * x\n"
QUICK = Limits(seconds=2, memory_mb=512)


@pytest.fixture(autouse=True)
def _sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    need("bwrap")
    monkeypatch.setattr(sandbox, "PATIENCE", (2, 4))


def verdict(program: str, tests: str = TESTS, limits: Limits = QUICK) -> Verdict:
    return run_programs([(textwrap.dedent(program), tests)], limits)[0]


def told(expression: str, imports: str = "") -> object:
    """What a program finds out, told through a function."""
    found = verdict(f"{imports}\ndef one():\n    return repr({expression})\n", "raise ValueError(one())")
    return found.why.removeprefix("ValueError: ")


def test_a_right_program_passes_and_a_wrong_one_says_why() -> None:
    assert verdict(RIGHT) == Verdict(True, "")
    wrong = verdict("def one():\n    return 2\n")
    assert (wrong.passed, wrong.why) == (False, "AssertionError: ")
    assert verdict("def one(:").why.startswith("SyntaxError")
    assert verdict("def two(): return 2").why == "NameError: name 'one' is not defined"


def test_verdicts_come_in_order_and_equal_programs_run_once() -> None:
    jobs = [(RIGHT, TESTS), ("", TESTS), (RIGHT, TESTS)]
    assert [each.passed for each in run_programs(jobs, QUICK)] == [True, False, True]


HOSTILE = {
    "endless loop": "while True: pass",
    "endless loop in a function": "def one():\n    while True: pass",
    "sleep": "import time\ntime.sleep(1000)",
    "10 GB": "x = bytearray(10 << 30)\n" + RIGHT,
    "10 GB in steps": "x = []\nwhile True: x.append(bytearray(64 << 20))",
    "exit": "import os\nos._exit(0)",
    "sys.exit": "import sys\nsys.exit(0)",
    "exit in a function": "import os\ndef one():\n    os._exit(0)",
    "exit at exit": "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit(0)",
    "print a verdict": """
        import os, sys
        line = b'{"passed": true, "why": ""}\\n'
        for fd in range(64):
            try:
                os.write(fd, line)
            except OSError:
                pass
        print(line.decode(), flush=True)
        os._exit(0)
    """,
    "answer before it is asked": """
        import os
        for fd in range(3, 64):
            try:
                os.write(fd, b'{"value": 1}\\n' * 10)
            except OSError:
                pass
    """,
    "equal to everything": """
        class Yes:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
            def __bool__(self): return True
        def one(): return Yes()
        def twice(x): return Yes()
    """,
    "an int that is equal to everything": """
        class Yes(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
        def one(): return Yes(7)
        def twice(x): return Yes(7)
    """,
    "builtins replaced": """
        import builtins, sys, json
        builtins.AssertionError = type("No", (Exception,), {})
        builtins.exec = lambda *a: None
        builtins.compile = lambda *a, **k: None
        json.dumps = lambda *a, **k: '{"passed": true, "why": ""}'
        sys.modules["__main__"].__dict__.clear()
    """,
    "the harness replaced": """
        import sys
        from shardmark.untrusted.inside import wire
        wire.encode = lambda value, keep: 1
        wire.send = lambda channel, message: channel.write(b'{"passed": true, "why": ""}\\n') and channel.flush()
    """,
    "kill everything": """
        import os, signal
        for pid in (-1, 1, os.getppid(), *range(2, 200)):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
    """,
    "tests raise what ends them": "def one():\n    raise SystemExit(0)",
    "an exception of its own": "class Odd(BaseException): pass\ndef one():\n    raise Odd",
    "deep answer": "def one():\n    x = []\n    for _ in range(10**5): x = [x]\n    return x",
    "huge answer": "def one():\n    return 'x' * (100 << 20)",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "sleep" else ()) for name in HOSTILE]
)
def test_a_hostile_program_does_not_pass(name: str) -> None:
    started = time.monotonic()
    assert not verdict(HOSTILE[name], limits=Limits(seconds=1, memory_mb=512)).passed
    assert time.monotonic() - started < 120


@pytest.mark.slow
def test_a_fork_bomb_ends_with_its_sandbox_and_a_right_program_runs_beside_it() -> None:
    mark = f"bomb{os.getpid()}"
    bomb = f"import os\n{mark} = 1\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    assert [v.passed for v in run_programs([(bomb, TESTS), (RIGHT, TESTS)], QUICK)] == [False, True]
    for _ in range(100):
        if not _running_as_sandbox_user():
            return
        time.sleep(0.1)
    raise AssertionError("processes of a sandbox outlive it")


def _running_as_sandbox_user() -> list[str]:
    """Processes that sandboxes of this process left."""
    first = bwrap.FIRST_USER + os.getpid() % 1_000_000 * 100
    users = range(first, first + 100) if os.geteuid() == 0 else ()
    processes = psutil.process_iter(["cmdline", "uids"])  # without those that end meanwhile
    return [str(one.info["cmdline"]) for one in processes if one.info["uids"] and one.info["uids"].real in users]


def test_processes_are_few() -> None:
    count = """
def one():
    import os, time
    made = 0
    for _ in range(500):
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            made += 1
        except OSError:
            break
    return made
"""
    assert verdict(count, "assert 0 < one() < 20").passed


def test_memory_that_no_process_owns_cannot_be_taken() -> None:
    shared = told("libc.shmget(0, 1 << 20, 0o1600)", "import ctypes\nlibc = ctypes.CDLL(None)")
    in_files = verdict("import os\ndef one(): return os.memfd_create('x')", "one()")
    assert (shared, in_files.why) == ("-1", "PermissionError: [Errno 1] Operation not permitted")


def test_where_memory_runs_out_the_program_ends_first() -> None:
    assert told("open('/proc/self/oom_score_adj').read().strip()") == "'1000'"


def test_system_calls_around_the_sandbox_are_refused() -> None:
    calls = {"keyctl": "219, 0, -3, 0", "unshare": "97, 0x10000000", "clone": "220, 0x10000011, 0, 0, 0, 0"}
    calls["prctl"] = "167, 1, 0"
    if platform.machine() == "x86_64":
        calls = {"keyctl": "250, 0, -3, 0", "unshare": "272, 0x10000000", "clone": "56, 0x10000011, 0, 0, 0, 0"}
        calls["prctl"] = "157, 1, 0"
    for name, call in calls.items():
        assert told(f"libc.syscall({call})", "import ctypes\nlibc = ctypes.CDLL(None)") == "-1", name


def test_there_is_no_other_process_to_write_into() -> None:
    tried = """
        import os
        def one():
            found = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                if int(pid) != os.getpid():
                    try:
                        found.append(os.open(f"/proc/{pid}/mem", os.O_RDWR))
                    except PermissionError:
                        pass
            return found
    """
    assert verdict(tried, "assert one() == []").passed


def test_threads_and_other_programs_can_be_started() -> None:
    started = """
        import subprocess, threading
        def one():
            found = []
            thread = threading.Thread(target=found.append, args=(1,))
            thread.start()
            thread.join()
            subprocess.run(["true"], check=True)
            return found
    """
    assert verdict(started, "assert one() == [1]").passed


def test_a_machine_whose_system_calls_are_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "pdp11")
    sandbox.require_sandbox.cache_clear()
    with pytest.raises(UserError, match="pdp11"):
        verdict(RIGHT)
    sandbox.require_sandbox.cache_clear()


def test_there_is_no_network() -> None:
    connect = "def one():\n    import socket\n    socket.create_connection(('1.1.1.1', 53), timeout=5)\n"
    assert verdict(connect).why.startswith("OSError")
    devices = "[line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line]"
    assert told(devices) == "['lo']"


def test_there_are_no_files_but_the_systems(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    for path in ("/etc/shadow", "/etc/passwd", str(secret), str(Path(__file__).resolve())):
        why = verdict(f"def one():\n    return open({path!r}).read()\n", "raise ValueError(one())").why
        assert why.startswith("FileNotFoundError"), path
    assert told("os.listdir(os.path.expanduser('~'))", "import os") == "[]"


@pytest.mark.parametrize("path", ["/x", "/home/x", "/usr/x", "/usr/bin/python3", "/proc/sys/kernel/hostname"])
def test_nothing_can_be_written_outside(path: str) -> None:
    assert verdict(f"def one():\n    open({path!r}, 'a')\n    return 1\n{RIGHT[30:]}").passed is False


def test_files_that_are_written_are_small() -> None:
    large = "def one():\n    with open('/tmp/x', 'wb') as f:\n        f.write(bytes(17 << 20))\n    return 1\n"
    small = "def one():\n    with open('/tmp/x', 'wb') as f:\n        return f.write(b'1')\n"
    assert verdict(small, "assert one() == 1").passed
    assert not verdict(large, "assert one() == 1").passed


def test_the_environment_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_API_KEY", "hunter2")
    names = told("' '.join(sorted(os.environ))", "import os")
    assert set(str(names).strip("'").split()) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "PWD", "PYTHONHASHSEED"}
    of_others = "b''.join(open(f'/proc/{p}/environ', 'rb').read() for p in os.listdir('/proc') if p.isdigit())"
    seen = verdict(f"import os\ndef one():\n    return {of_others}.decode()\n", "raise ValueError(one())").why
    assert "hunter2" not in seen
    assert seen.startswith(("ValueError: HOME", "PermissionError"))


def test_the_program_is_not_root_and_has_no_capabilities() -> None:
    assert told("os.getuid()", "import os") != ("0" if os.geteuid() == 0 else "")
    status = told("[x for x in open('/proc/self/status') if x.startswith(('CapEff', 'CapPrm', 'NoNewPrivs'))]")
    assert "CapEff:\\t0000000000000000" in str(status)
    assert "CapPrm:\\t0000000000000000" in str(status)
    assert "NoNewPrivs:\\t1" in str(status)


# What passes between program and tests


@pytest.mark.parametrize(
    "value",
    [
        "None",
        "True",
        "-5",
        "10 ** 100",
        "1.5",
        "float('inf')",
        "1 + 2j",
        "'é\\ud800'",
        "b'x'",
        "[1, (2, {'a': {3}}), frozenset([4])]",
        "{1: 2, (3, 4): [5]}",
        "int",
    ],
)
def test_plain_data_arrives_as_it_is(value: str) -> None:
    assert verdict("def same(x): return x", f"x = {value}\nassert same(x) == x and type(same(x)) is type(x)").passed


def test_derived_types_arrive_as_what_they_are_made_from() -> None:
    made = "from collections import Counter, namedtuple\ndef one(): return Counter('aab'), namedtuple('P', 'x')(3)\n"
    assert verdict(made, "assert one() == ({'a': 2, 'b': 1}, (3,))").passed


def test_objects_of_the_program_can_be_used_from_afar() -> None:
    tree = """
        class Node:
            def __init__(self, value): self.value, self.left = value, None
        def depth(node): return 0 if node is None else 1 + depth(node.left)
        def numbers():
            yield from (1, 2)
    """
    tests = "root = Node(1)\nroot.left = Node(2)\nassert depth(root) == 2 and root.left.value == 2\n"
    assert verdict(tree, tests + "assert list(numbers()) == [1, 2]\nassert root != Node(1)").passed


def test_exceptions_arrive_as_the_builtin_that_they_are() -> None:
    program = "class Bad(ValueError): pass\ndef one(): raise Bad('no')\n"
    tests = "try:\n    one()\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False"
    assert verdict(program, tests).passed


def test_a_program_cannot_replace_what_tests_compare_with() -> None:
    program = "def one(): return 5\ndef abs(x): return 0\ndef helper(x): return 0\n"
    assert not verdict(program, "assert abs(one() - 1) < 1e-6").passed
    assert not verdict(program, "def helper(x): return x\nassert helper(one()) == 0").passed


def test_modules_that_tests_use_are_pythons_own() -> None:
    program = "class sys:\n    getsizeof = lambda x: 1\ndef one(): return 1\n"
    assert not verdict(program, "assert one() == sys.getsizeof((1, 2))").passed
    assert verdict("class string:\n    size = 3\ndef one(x): return x", "assert one(string).size == 3").passed


def test_a_loop_of_the_tests_is_not_ended_by_the_program() -> None:
    assert not verdict("def right(x): raise StopIteration", "assert all(map(right, [1, 2]))").passed


def test_a_function_that_is_called_like_pythons_own_is_tested() -> None:
    assert verdict("def sum(a, b): return a + b", "assert sum(1, 2) == 3").passed


def test_what_tests_print_is_no_verdict() -> None:
    assert not verdict(RIGHT, 'print(\'{"passed": true, "why": ""}\')\nassert one() == 2').passed
    assert verdict(RIGHT, "print('x' * 10**6)\nassert one() == 1").passed


@pytest.mark.slow
def test_processes_that_score_at_once_do_not_disturb_each_other() -> None:
    code = f"""
import sys
sys.path[:0] = {sys.path}
from test_sandbox import QUICK, RIGHT, TESTS, run_programs
verdicts = run_programs([(RIGHT + f"# {{n}}", TESTS) for n in range(6)], QUICK)
assert all(each.passed for each in verdicts), verdicts
"""
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent) for _ in range(3)]
    assert [process.wait(200) for process in started] == [0, 0, 0]


def test_without_bwrap_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    sandbox.require_sandbox.cache_clear()
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        verdict(RIGHT)


FRAMES = """
import unittest

class TestCases(unittest.TestCase):
    def test_frame(self):
        self.assertIsInstance(frame(3), np.ndarray)
        self.assertEqual(frame(3).sum(), 3)
"""


def test_an_interpreter_with_packages_runs_program_and_tests_together() -> None:
    together = Limits(seconds=5, memory_mb=8192, python=sys.executable)
    assert verdict("import numpy as np\ndef frame(n): return np.arange(n)", FRAMES, together) == Verdict(True, "")
    wrong = verdict("import numpy as np\ndef frame(n): return np.ones(n + 1)", FRAMES, together)
    assert (wrong.passed, "AssertionError" in wrong.why) == (False, True)
    assert verdict("import os\nos._exit(0)", FRAMES, together).why == "the tests ended without a verdict"
    assert verdict("def frame(n): pass", "class TestCases(__import__('unittest').TestCase): pass", together).why


def test_an_interpreter_with_packages_may_be_python_3_10_with_a_home_and_threads(tmp_path: Path) -> None:
    """It has no option -P."""
    venv.create(tmp_path / "old", symlinks=True)
    python = tmp_path / "old/bin/old"
    python.write_text('#!/bin/sh\ncase " $* " in *" -P "*) exit 2;; esac\nexec "${0%/*}/python" "$@"\n')
    python.chmod(0o755)
    home = "import os\nopen(os.path.expanduser('~/cache'), 'w').close()\n"
    threads = "import threading as t, time\nfor _ in range(30): t.Thread(target=time.sleep, args=(0.1,)).start()"
    why = verdict(home + threads, "import nonesuch", Limits(memory_mb=4096, python=str(python))).why
    assert why == "ModuleNotFoundError: No module named 'nonesuch'"


def test_modules_that_an_interpreter_lacks_are_found_outside_and_inside_the_sandbox() -> None:
    for inside in (False, True):
        assert sandbox.absent_modules(sys.executable, ["numpy", "nonesuch"], inside) == ["nonesuch"]
    with pytest.raises(UserError, match=r"nowhere/bin/python is not a Python that runs"):
        sandbox.absent_modules("nowhere/bin/python", ["numpy"], False)


def test_an_environment_below_tmp_is_seen_in_the_sandbox(tmp_path: Path) -> None:
    """The sandbox has a /tmp of its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    assert sandbox.absent_modules(f"{tmp_path}/venv/bin/python", ["unittest", "numpy"], inside=True) == ["numpy"]


def test_a_module_that_tests_need_and_the_interpreter_lacks_is_an_error_not_a_zero() -> None:
    metric = METRICS["pass_at_k"].model_validate({"name": "pass_at_k", "python": sys.executable})
    tests = f"if False:\n    import nonesuch\n{FRAMES}"
    with pytest.raises(RenderError, match="the tests need nonesuch"):
        metric.check_targets([tests])
    with pytest.raises(UserError, match="the tests need nonesuch"):
        metric.terms(["def frame(n): pass"], [tests])
    absent = METRICS["pass_at_k"].model_validate({"name": "pass_at_k", "python": "nowhere/bin/python"})
    absent.check_targets([tests])  # `prompts` needs no interpreter
    with pytest.raises(UserError, match="python3 -m venv nowhere"):
        absent.check_machine()
