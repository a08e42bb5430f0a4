"""Messages between the tester and the program, and the limits that both set on themselves.

Only plain data passes. A value is JSON: itself if it is None, a bool, a number or a text, else an object whose one key
names its type. Everything that is not plain stays with the program, and `{"object": 7}` stands for it.
"""

import builtins
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BufferedRWPair
from typing import Any

LONGEST = 64 << 20
"The most bytes of a message."
DIGITS = 4000
"The most decimal digits of an integer; longer ones are written in hexadecimal, since reading takes quadratic time."
FILE_BYTES = 16 << 20
FILES = 64
PROCESSES = 16
STACK_BYTES = 8 << 20
STARTED = 8
"Processes that a sandbox starts to check that the system allows them; else a correct program might fail."
READY = b"ready"
CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset)


class WireError(ValueError):
    """The received bytes are not a message."""


def confine(seconds: str, memory_mb: str, user: str) -> None:
    """Limit this process and those it starts: computing time, memory, processes, open files and their size.

    Each process may use the full memory limit: if that is more than there is, the kernel ends these before any other.
    Root becomes another user for good. Settings inherited from the scoring process are reset.
    """
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    if int(user):
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))
    os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):  # the C library has some for itself
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in (signal.SIGPIPE, signal.SIGXFSZ) else default)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    limits = {
        resource.RLIMIT_CPU: round(float(seconds) + 0.5),
        resource.RLIMIT_AS: int(memory_mb) << 20,
        resource.RLIMIT_NPROC: PROCESSES,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_STACK: STACK_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        try:
            resource.setrlimit(kind, (limit, limit))
        except ValueError:
            names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
            name = next(name for name in names if getattr(resource, name) == kind)
            most = resource.getrlimit(kind)[1]
            raise OSError(f"{name} must be {limit} in the sandbox, and is at most {most} here (ulimit -H)") from None
    _start_processes()


def _start_processes() -> None:
    """Raise OSError if the system does not let this process start as many processes as it may."""
    started, (reader, writer) = [], os.pipe()
    try:
        for _ in range(STARTED):
            child = os.fork()
            if not child:
                os.close(writer)
                os.read(reader, 1)  # until this process closes the other end
                os._exit(0)
            started.append(child)
    except OSError as error:
        what = f"it can start {len(started)} of {STARTED} processes: {error.strerror} (ulimit -u)"
        raise OSError(what) from None
    finally:
        os.close(writer)
        os.close(reader)
        for child in started:
            os.waitpid(child, 0)


def begin(control_fd: str, *limits: str) -> socket.socket:
    """Set the limits, then report to the parent, and lend it the scratch folder so that it sees how full that is."""
    control = socket.socket(fileno=int(control_fd))
    sys.set_int_max_str_digits(0)
    confine(*limits)
    scratch = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    socket.send_fds(control, [READY], [scratch])
    os.close(scratch)
    os.close(nothing)
    return control


def encode(value: object, keep: Callable[[Any], int]) -> Any:
    """The JSON of a value; `keep` gives the number of an object. An instance of a plain type's subclass is plain."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 3 * DIGITS:
        return {"int": hex(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": list(value)}
    if isinstance(value, dict):
        return {"dict": [[encode(key, keep), encode(part, keep)] for key, part in dict.items(value)]}
    for kind in CONTAINERS:
        if isinstance(value, kind):
            return {kind.__name__: [encode(part, keep) for part in kind.__iter__(value)]}
    name = getattr(value, "__name__", None)
    if isinstance(value, type) and getattr(builtins, str(name), None) is value:
        return {"type": name}
    return {"object": keep(value)}


def decode(value: object, find: Callable[[int], Any]) -> Any:
    """The value of its JSON; `find` gives the object with a number. Raises WireError."""
    try:
        return _decoded(value, find)
    except RecursionError:
        raise WireError("a value that is nested too deeply") from None


def _decoded(value: object, find: Callable[[int], Any]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise WireError("an invalid value")
    ((name, parts),) = value.items()
    match name, parts:
        case "object", int():
            return find(parts)
        case "int", str():
            return _read(lambda: int(parts, 16))
        case "type", str():
            found = getattr(builtins, parts, None)
            if isinstance(found, type):
                return found
        case "complex", [int() | float() as real, int() | float() as imaginary]:
            return _read(lambda: complex(real, imaginary))
        case "bytes", list() if all(type(part) is int for part in parts):
            return _read(lambda: bytes(parts))
        case "dict", list() if all(isinstance(part, list) and len(part) == 2 for part in parts):
            pairs = [(_decoded(key, find), _decoded(part, find)) for key, part in parts]
            return _read(lambda: dict(pairs))
        case "list" | "tuple" | "set" | "frozenset", list():
            made = [_decoded(part, find) for part in parts]
            return _read(lambda: {kind.__name__: kind for kind in CONTAINERS}[name](made))
    raise WireError(f"a value of an unknown kind: {name[:40]!r}")


def _read(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (ValueError, TypeError, OverflowError) as error:
        raise WireError(str(error)) from None


def send(channel: BufferedRWPair, message: object) -> None:
    """Write a message."""
    channel.write(json.dumps(message).encode() + b"\n")
    channel.flush()


def receive(channel: BufferedRWPair) -> Any:
    """Read a message. Raises EOFError at the end or if it is too long, and WireError for bytes that are not one."""
    line = channel.readline(LONGEST)
    if not line.endswith(b"\n"):
        raise EOFError("the other side has ended")
    return read(line)


def read(line: bytes) -> Any:
    """The content of a message in JSON. Raises WireError."""
    try:
        return json.loads(line, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a message: {error}"[:200]) from None


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise WireError("an integer that is too long")
    return int(digits)
