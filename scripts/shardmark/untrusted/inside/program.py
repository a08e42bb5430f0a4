"""The program's side: runs what a model wrote, and does with it what the tester asks.

Nothing in this process is trusted once the program has begun. All that it can do is to answer the tester with values:
the tests, what they expect and the verdict are in a process of another sandbox.
"""

import operator
import socket
import sys
import types
from typing import Any

from shardmark.untrusted.inside import wire

program = types.ModuleType("program")
objects: list[Any] = []


def keep(value: object) -> int:
    """The number of an object."""
    for number, known in enumerate(objects):
        if known is value:
            return number
    objects.append(value)
    return len(objects) - 1


def run(source: str) -> list[str]:
    """Run the program. The names that it defines."""
    sys.modules[program.__name__] = program
    exec(compile(source, "program", "exec"), vars(program))
    return [name for name in vars(program) if not name.startswith("__")]


DO: dict[str, Any] = {
    "run": run,
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
    """What comes of a message: a value, or an exception by the name of the builtin one that it is made from."""
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
