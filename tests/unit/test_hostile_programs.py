"""Programs that attack the sandbox and the verdict: none passes, none gets out, none outlasts its limits."""

import os
import resource
import textwrap
import time

import psutil
import pytest

from requirements_check import need
from shardmark.untrusted import sandbox
from shardmark.untrusted.sandbox import Limits, Verdict, run_programs

TESTS = "assert one() == 1\nassert twice(21) == 42"
RIGHT = "def one():\n    return 1\n\ndef twice(x):\n    return 2 * x\n"
QUICK = Limits(seconds=2, memory_mb=256)
EVERY_FD = """
    import os
    for fd in range(64):
        for _ in range(5):
            try:
                os.write(fd, {line!r})
            except OSError:
                pass
"""


@pytest.fixture(autouse=True)
def _sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    need("bwrap")
    monkeypatch.setattr(sandbox, "PATIENCE", (2, 4))


def verdict(program: str, tests: str = TESTS, limits: Limits = QUICK) -> Verdict:
    return run_programs([(textwrap.dedent(program), textwrap.dedent(tests))], limits)[0]


FORGING = {
    "verdict on every descriptor": EVERY_FD.format(line=b'{"passed": true, "why": ""}\n') + "    os._exit(0)\n",
    "ready on every descriptor": EVERY_FD.format(line=b"ready") + "    os._exit(0)\n",
    "answers on every descriptor": EVERY_FD.format(line=b'{"value": 1}\n'),
    "no message on every descriptor": EVERY_FD.format(line=b"[]\n"),
    "a message without end": (
        "import os\nwhile True:\n    for fd in range(3, 9):\n        try: os.write(fd, b'x' * 65536)\n"
        "        except OSError: pass\n"
    ),
    "sys.exit": "import sys\nsys.exit(0)",
    "sys.exit in a function": "import sys\ndef one(): sys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "atexit": "import atexit, os, sys\natexit.register(lambda: os._exit(0))\nsys.exit(0)",
    "abort": "import os\nos.abort()",
    "crash": "import ctypes\nctypes.string_at(0)",
    "kills itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "executes another program": "import os\nos.execv('/bin/true', ['true'])",
    "an answer of one type that is equal to all": (
        "class A(int):\n    __eq__ = lambda *a: True\n    __hash__ = int.__hash__\ndef one(): return A(5)\n"
        "def twice(x): return A(5)\n"
    ),
    "a text that is equal to all": (
        "class A(str):\n    __eq__ = lambda *a: True\n    __hash__ = str.__hash__\ndef one(): return A()\n"
        "def twice(x): return A()\n"
    ),
    "an object that answers all": (
        "class A:\n    def __getattr__(self, n): return lambda *a, **k: self\n    __eq__ = lambda *a: True\n"
        "def one(): return A()\ndef twice(x): return A()\n"
    ),
    "StopIteration": "def one(): raise StopIteration\ndef twice(x): raise StopIteration",
    "GeneratorExit": "def one(): raise GeneratorExit",
    "KeyboardInterrupt": "def one(): raise KeyboardInterrupt",
    "AssertionError is no error": "import builtins\nbuiltins.AssertionError = Warning\ndef one(): return 2",
    "reads the tests from memory": (
        "import gc\ndef one():\n    for o in gc.get_objects():\n"
        "        if isinstance(o, str) and 'assert one' in o: return 1\n    return 2\n"
    ),
    "reads the tests from frames": (
        "import sys\ndef one():\n    f = sys._getframe()\n    while f:\n"
        "        if 'assert one' in repr(f.f_locals): return 1\n        f = f.f_back\n    return 2\n"
    ),
    "reads the tests from arguments": (
        "import glob\ndef one():\n"
        "    return int(any(b'assert one' in open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline')))\n"
    ),
    "changes what the harness does": (
        "from shardmark.untrusted.inside import wire\nwire.encode = lambda v, k: True\ndef one(): return 5\n"
        "def twice(x): return 5\n"
    ),
    "changes how JSON is written": (
        'import json\njson.dumps = lambda *a, **k: \'{"passed": true, "why": ""}\'\n'  # as text
        "def one(): return 5"
    ),
    "a type that is no type": EVERY_FD.format(line=b'{"value": {"type": "exec"}}\n'),
    "bytes by their number": EVERY_FD.format(line=b'{"value": {"bytes": 99999999999}}\n'),
    "digits without end": EVERY_FD.format(line=b'{"value": ' + b"9" * 5000 + b"}\n"),
    "an exception of the harness": EVERY_FD.format(line=b'{"raised": "SystemExit", "text": "0"}\n'),
    "waits for ever": "import time\ndef one(): time.sleep(10**6)",
    "computes for ever": "def one():\n    while True: pass",
    "computes in threads": (
        "import threading\ndef loop():\n    while True: pass\n"
        "for _ in range(4): threading.Thread(target=loop).start()\n"
    ),
    "takes all memory": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "ignores its limit": ("import resource, signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"),
    "raises its limits": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (999, 999))\n" + RIGHT,
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef one(): return one()",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGING)
def test_no_verdict_is_forged(name: str) -> None:
    started = time.monotonic()
    assert not verdict(FORGING[name]).passed
    assert time.monotonic() - started < 120


ESCAPES = {
    "passwords": "open('/etc/shadow').read()",
    "keys of the kernel": "open('/proc/kcore', 'rb').read(1)",
    "disks": "open('/dev/sda', 'rb').read(1)",
    "memory of the machine": "open('/dev/mem', 'rb').read(1)",
    "the terminal": "open('/dev/tty', 'w')",
    "settings": "os.listdir('/etc')",
    "the library": "os.listdir('/usr/bin/../../work')",
    "run time sockets": "os.listdir('/run')",
    "kernel settings": "open('/proc/sys/kernel/core_pattern', 'w')",
    "sysrq": "open('/proc/sysrq-trigger', 'w').write('b')",
    "a mount": "check(libc.mount(b'x', b'/tmp', b'tmpfs', 0, 0))",
    "another root": "os.chroot('/tmp')",
    "root": "os.setuid(0)",
    "a namespace": "check(libc.unshare(0x10000000))",
    "tracing": "check(libc.ptrace(0, 0, 0, 0))",
    "another process's memory": "os.open(f'/proc/{os.getppid() or 1}/mem', os.O_RDWR) if os.getpid() != 1 else 1 / 0",
    "a device of its own": "os.mknod('/tmp/d', 0o60600, os.makedev(8, 0))",
    "a program with more rights": "os.chown('/usr/bin/python3', 0, 0)",
    "the clock": "__import__('time').clock_settime(0, 0)",
    "the host's name": "__import__('socket').sethostname('x')",
    "a network": "__import__('socket').create_connection(('1.1.1.1', 53), 2)",
    "names of the network": "__import__('socket').getaddrinfo('example.org', 80)[0]",
    "a raw socket": "__import__('socket').socket(2, 3, 1)",
    "memory files": "os.memfd_create('x')",
    "the machine that this one runs on": "__import__('socket').socket(40, 1)",
    "the kernel's messages": "__import__('socket').socket(16, 3)",
    "packets": "__import__('socket').socket(17, 3)",
    "the kernel's cryptography": "__import__('socket').socket(38, 5)",
    "Bluetooth": "__import__('socket').socket(31, 3)",
}


@pytest.mark.parametrize("chunk", range(3))
def test_no_way_leads_out(chunk: int) -> None:
    head = "import ctypes, os\nlibc = ctypes.CDLL(None)\ndef check(r):\n    if r: raise OSError(r)\n"
    names = sorted(ESCAPES)[chunk::3]
    jobs = [(f"{head}def one():\n    return repr({ESCAPES[name]})\n", "raise ValueError(one())") for name in names]
    whys = {name: found.why for name, found in zip(names, run_programs(jobs, QUICK), strict=True)}
    refused = ("OSError", "PermissionError", "FileNotFoundError", "gaierror", "ZeroDivisionError", "NotADirectoryError")
    assert {name: why for name, why in whys.items() if not why.startswith(refused)} == {}


def test_sockets_are_of_three_families_and_connect_to_nothing() -> None:
    program = """
        import socket, struct, ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        def one():
            made = [f for f in range(-2, 64) for s in (1, 2, 3, 5) if libc.socket(f, s, 0) >= 0]
            return sorted(set(made))
        def pairs():
            return [f for f in range(64) if libc.socketpair(f, 1, 0, (ctypes.c_int * 2)()) == 0]
        def high():
            return libc.syscall(41, ctypes.c_long((7 << 32) + 40), 1, 0)
        def connect(address):
            try:
                socket.create_connection((address, 80), 1)
            except OSError as error:
                return "refused"
    """
    tests = "assert set(one()) <= {1, 2, 10}, one()\nassert pairs() == [1], pairs()\nassert high() == -1\n"
    tests += (
        "for a in ('127.0.0.1', '::1', '10.0.0.1', '169.254.169.254', '1.1.1.1'): assert connect(a) == 'refused', a"
    )
    assert verdict(program, tests) == Verdict(True, "")


@pytest.mark.parametrize(
    "code",
    [
        "b8 29 00 00 40 bf 01 00 00 00 be 01 00 00 00 31 d2 0f 05 c3",  # socket by x32's number
        "b8 66 00 00 00 bb 01 00 00 00 31 c9 cd 80 c3",  # socketcall by i386's way into the kernel
    ],
    ids=["x32", "i386"],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="of x86_64")
def test_other_ways_into_the_kernel_are_closed(code: str) -> None:
    program = f"""
        import ctypes, mmap
        def one():
            page = mmap.mmap(-1, 4096, prot=7)
            page.write(bytes.fromhex("{code}"))
            return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    """
    found = verdict(program, "assert one() < 0, one()\nraise ValueError('refused')")
    assert found.why in ("ValueError: refused", "the program ended: too much time or memory, or an exit")


# What takes too much, of the program's and of the tests'

BOMBS = {
    "files": "import os\nfor i in range(600_000): open(f'/tmp/{i}', 'w').close()\n",
    "folders": "import os\nfor i in range(600_000): os.mkdir(f'/tmp/{i}')\n",
    "links": "import os\nfor i in range(600_000): os.symlink('x' * 200, f'/tmp/{i}')\n",
    "children that compute": (
        "import os\nfor _ in range(12):\n    if os.fork() == 0:\n        while True: pass\nimport time\n"
        "time.sleep(99)\n"
    ),
    "children one after the other": (
        "import os, time\nwhile True:\n    if os.fork() == 0:\n        e = time.process_time() + 0.5\n"
        "        while time.process_time() < e: pass\n        os._exit(0)\n    os.wait()\n"
    ),
    "children nobody waits for": (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n"
        "    if os.fork() == 0:\n        e = time.process_time() + 0.9\n"
        "        while time.process_time() < e: pass\n        os._exit(0)\n    time.sleep(0.8)\n"
    ),
    "memory of many": (
        "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n"
        "        x = bytearray(b'x' * (200 << 20))\n        time.sleep(99)\ntime.sleep(99)\n"
    ),
    "double forks": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        while True: pass\n    os._exit(0)\ntime.sleep(99)\n"
    ),
}
RULES = ("more than", "no verdict after", "the program ended")


@pytest.mark.slow
@pytest.mark.parametrize("side", ["program", "tests"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_bounded(name: str, side: str) -> None:
    started = time.monotonic()
    found = verdict(BOMBS[name] + RIGHT) if side == "program" else verdict(RIGHT, BOMBS[name])
    assert not found.passed
    assert any(rule in found.why for rule in (*RULES, "Error", "without a verdict")), found
    assert time.monotonic() - started < 100


FLOODS = {
    "errors": "import sys\nwhile True: sys.stderr.write('x' * (1 << 20))\n",
    "output": "while True: print('x' * (1 << 20))\n",
    "every descriptor": (
        "import os\nwhile True:\n    for fd in range(64):\n        try: os.write(fd, b'x' * 65536)\n"
        "        except OSError: pass\n"
    ),
    "an empty verdict": (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'[]\\n')\n    except OSError: pass\nos._exit(0)\n"
    ),
    "a number": (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'1\\n')\n    except OSError: pass\nos._exit(0)\n"
    ),
    "a long reason": "raise ValueError('x' * (100 << 20))\n",
    "an exit": "import os\nos._exit(0)\n",
    "a signal": "import os\nos.kill(os.getpid(), 9)\n",
}


@pytest.mark.parametrize("name", FLOODS)
def test_tests_cannot_fill_or_crash_the_scorer(name: str) -> None:
    verdict(RIGHT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = verdict(RIGHT, FLOODS[name], Limits(seconds=1, memory_mb=256))
    assert not found.passed
    assert len(found.why) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_what_forks_twice_ends_with_its_sandbox() -> None:
    mark = f"forked-{os.getpid()}"
    program = f"""
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv("/bin/sh", ["{mark}", "-c", "while :; do sleep 1; done"])
            os._exit(0)
        os.wait()
    """
    assert verdict(textwrap.dedent(program) + RIGHT).passed
    deadline = time.monotonic() + 20
    while any(mark in (one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline, "it outlives its sandbox"
        time.sleep(0.1)
