"""Messages between the tester and the program, and the limits that both set themselves.

Only plain data passes. A value is JSON: itself if it is None, a bool, a number or a text, else an object whose one key
tells its type. Everything that is not plain stays with the program, and `{"object": 7}` stands for it.
"""

import builtins
import json
import os
import resource
from collections.abc import Callable
from typing import Any

LONGEST = 64 << 20
"Bytes of a message."
FILE_BYTES = 16 << 20
FILES = 64
PROCESSES = 16
CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset)


def confine(seconds: str, memory_mb: str, user: str) -> None:
    """Bound this process and those it starts: computing time, memory, processes, open files and their size.

    Each process may take the memory: where that is more than there is, the kernel ends these before any other. Root
    becomes another user for good.
    """
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    if int(user):
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))
    limits = {
        resource.RLIMIT_CPU: round(float(seconds) + 0.5),
        resource.RLIMIT_AS: int(memory_mb) << 20,
        resource.RLIMIT_NPROC: PROCESSES,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def encode(value: Any, keep: Callable[[Any], int]) -> Any:
    """JSON for a value; `keep` gives the number of an object. A type derived from a plain one is that."""
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


def decode(value: Any, find: Callable[[int], Any]) -> Any:
    """The value of its JSON; `find` gives the object of a number."""
    if not isinstance(value, dict):
        return value
    ((name, parts),) = value.items()
    if name == "object":
        return find(int(parts))
    if name == "complex":
        return complex(*parts)
    if name == "bytes":
        return bytes(parts)
    if name == "dict":
        return {decode(key, find): decode(part, find) for key, part in parts}
    if name == "type":
        found = getattr(builtins, parts)
        return found if isinstance(found, type) else None
    return {kind.__name__: kind for kind in CONTAINERS}[name](decode(part, find) for part in parts)


def send(channel: Any, message: Any) -> None:
    """Write a message."""
    channel.write(json.dumps(message).encode() + b"\n")
    channel.flush()


def receive(channel: Any) -> Any:
    """Read a message. Raises EOFError if there is no more, or one that is too long."""
    line = channel.readline(LONGEST)
    if not line.endswith(b"\n"):
        raise EOFError("the other side has ended")
    return json.loads(line)
