"""The tester's side: runs a data set's tests on a program in another sandbox, and reports the verdict.

The program's functions are called remotely, and their results arrive as plain data. So no object of the program's takes
part in a comparison, none of its changes reach the tests, and it never sees what they expect.
"""

import ast
import builtins
import importlib
import json
import socket
import sys
from io import BufferedRWPair
from typing import Any, NoReturn

from shardmark.untrusted.inside import wire

SHOWN = 500
"The most characters of a reason."
ENDS = (StopIteration, StopAsyncIteration)
"Exceptions that end a loop of the tests, such as that of `all(map(function, cases))`, as if it were complete."


SCRIPT, LIMIT = "__script__", "__limit_time__"
"Functions for the tests: the program's output for an input, and the limit on its further computing time."


class Program:
    """The program, reached through a channel."""

    def __init__(self, channel: BufferedRWPair) -> None:
        self.channel = channel

    def ask(self, do: str, *arguments: Any) -> Any:
        """Ask the program's side to do something. Raises the builtin exception that it raised, or EOFError."""
        wire.send(self.channel, {"do": do, "arguments": [wire.encode(part, _number) for part in arguments]})
        match wire.receive(self.channel):
            case {"raised": str() as name, "text": str() as text}:
                _raise(name, text)
            case {"value": value}:
                return wire.decode(value, lambda number: Remote(self, number))
        raise wire.WireError("no reply")


class Remote:
    """An object of the program's that is not plain data. It is equal only to itself."""

    def __init__(self, program: Program, number: int) -> None:
        self.__dict__.update(_program=program, _number=number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._program.ask("call", self, list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.ask("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._program.ask("setattr", self, name, value)

    def __getitem__(self, key: object) -> Any:
        return self._program.ask("getitem", self, key)

    def __iter__(self) -> Any:
        return iter(self._program.ask("list", self))

    def __len__(self) -> int:
        return int(self._program.ask("len", self))

    def __str__(self) -> str:
        return str(self._program.ask("str", self))

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


def _number(value: object) -> int:
    if not isinstance(value, Remote):
        raise TypeError(f"a {type(value).__name__} of the tests cannot be given to the program")
    return int(value._number)


def _raise(name: str, text: str) -> NoReturn:
    kind = getattr(builtins, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, ENDS):
        kind = RuntimeError
    raise kind(text)


def run_tests(program: Program, source: str, tests: str) -> None:
    """Run the tests on a program. Raises whatever fails.

    Names that the tests use come from the program, unless the tests define them. Names of Python's builtins do not, or
    a program could redefine what tests compare with; but if the tests use no other name, the program's are meant. Nor
    do modules that the tests use without an import, as in `sys.getsizeof(...)`. Tests that use SCRIPT run the program
    as a script, and do not run it otherwise.
    """
    tree = ast.parse(tests)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    modules = _modules(tree)
    own = {
        SCRIPT: lambda given: program.ask("script", source, given),
        LIMIT: lambda seconds: program.ask("limit_time", seconds),
    }
    names_there = [] if SCRIPT in used else program.ask("run", source)
    defined = used.intersection(name for name in names_there if isinstance(name, str)).difference(modules)
    asked = defined.difference(dir(builtins)) or defined
    names: dict[str, Any] = {name: importlib.import_module(name) for name in modules}
    names |= {name: program.ask("name", name) for name in asked}
    exec(compile(tree, "tests", "exec"), names | own | {"__name__": "tests"})


def _modules(tree: ast.AST) -> set[str]:
    """The names of Python's own modules that the tests use only before a dot."""
    nodes = list(ast.walk(tree))
    dotted = {
        id(node.value): node.value.id
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    alone = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in dotted}
    return (set(dotted.values()) - alone).intersection(sys.stdlib_module_names)


def verdict(program: Program, source: str, tests: str) -> dict[str, Any]:
    """Whether the program passes, and the reason if not."""
    try:
        run_tests(program, source, tests)
    except EOFError:
        return {"passed": False, "why": "the program ended: too much time or memory, or an exit"}
    except BaseException as error:
        return {"passed": False, "why": f"{type(error).__name__}: {error}"[:SHOWN]}
    return {"passed": True, "why": ""}


def main(channel_fd: str, control_fd: str, *limits: str) -> None:
    control = wire.begin(control_fd, *limits)
    job = json.loads(control.makefile("rb").readline())
    program = Program(socket.socket(fileno=int(channel_fd)).makefile("rwb"))
    found = json.dumps(verdict(program, job["program"], job["tests"]))
    control.sendall(found.encode() + b"\n")
