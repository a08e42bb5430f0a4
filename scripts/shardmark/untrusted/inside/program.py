"""The program's side: runs what a model wrote, and obeys the tester.

Nothing in this process is trusted once the program has begun. All it can do is answer the tester with values: the
tests, their expectations and the verdict are in a process of another sandbox.
"""

import contextlib
import operator
import os
import signal
import socket
import sys
import tempfile
import threading
import types
from typing import Any

from shardmark.untrusted.inside import wire

program = types.ModuleType("program")
objects: list[Any] = []


def keep(value: object) -> int:
    """The number of an object; a new object gets a new one."""
    for number, known in enumerate(objects):
        if known is value:
            return number
    objects.append(value)
    return len(objects) - 1


def run(source: str) -> list[str]:
    """Run the program, and return the names that it defines."""
    sys.modules[program.__name__] = program
    exec(compile(source, "program", "exec"), vars(program))
    return [name for name in vars(program) if not name.startswith("__")]


def script(source: str, given: str) -> str:
    """The output of the program run as a script on an input, however it reads and prints."""
    module = types.ModuleType("__main__")
    sys.modules[module.__name__] = module
    while (nothing := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # an earlier script may have closed its streams, and the files must not take their places
    os.close(nothing)
    with tempfile.TemporaryFile() as reads, tempfile.TemporaryFile() as prints:
        reads.write(given.encode("utf-8", "surrogatepass"))
        reads.seek(0)
        os.dup2(reads.fileno(), 0)
        os.dup2(prints.fileno(), 1)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        with contextlib.suppress(SystemExit):
            exec(compile(source, "program", "exec"), vars(module))
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        prints.seek(0)
        return prints.read().decode("utf-8", "replace")


def limit_time(seconds: float) -> None:
    """End this process after this many more seconds of computing; 0 lifts the limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


DO: dict[str, Any] = {
    "run": run,
    "script": script,
    "limit_time": limit_time,
    "name": lambda name: vars(program)[name],
    "call": lambda function, arguments, named: function(*arguments, **named),
    "getattr": getattr,
    "setattr": setattr,
    "getitem": operator.getitem,
    "list": list,
    "len": len,
    "str": str,
}


def answer(message: Any) -> Any:
    """The answer to a message: a value, or an exception by the name of its builtin base class."""
    try:
        arguments = [wire.decode(part, objects.__getitem__) for part in message["arguments"]]
        return {"value": wire.encode(DO[message["do"]](*arguments), keep)}
    except BaseException as error:
        builtin = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
        return {"raised": builtin, "text": str(error)[:1000]}


def main(channel_fd: str, control_fd: str, *limits: str) -> None:
    channel = socket.socket(fileno=int(channel_fd)).makefile("rwb")
    wire.begin(control_fd, *limits).close()
    while True:
        wire.send(channel, answer(wire.receive(channel)))
