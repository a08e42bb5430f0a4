"""The process that runs a function of a user's own file: it reads calls and writes values, a line of JSON each.

Python is given this file by its path, without any other part of Shardmark and without the run's variables.
"""

import json
import os
import random
import resource
import signal
import sys
import traceback
from types import ModuleType

MOST_WORDS = 1000
"The most characters of an error that are passed on."


def serve(memory: int, seconds: float) -> None:
    """Read the file's name, its text and the function's name; then answer calls until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    calls, out = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the file prints is not an answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nor are calls what it, or a program that it starts, may read
    signal.signal(signal.SIGPROF, _end)
    file, code, name = json.loads(calls.readline())
    module = sys.modules["own"] = ModuleType("own")  # dataclasses and pickle look a class's module up there
    module.__file__ = file
    function, process = None, os.getpid()
    for line in calls:
        arguments, settings = json.loads(line)
        random.seed(0)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            if function is None:
                exec(compile(code, file, "exec"), module.__dict__)
                function = getattr(module, name)
            value = function(*arguments, **settings)
            reply = json.dumps({"value": value}, default=float)  # numpy's numbers, decimals and fractions
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
            words = traceback.format_exception_only(type(error), error)[-1].strip()[:MOST_WORDS]
            reply = json.dumps({"error": words, "line": places[-1] if places else getattr(error, "lineno", None)})
        signal.setitimer(signal.ITIMER_PROF, 0)
        if os.getpid() != process:  # a fork that has left the function: its answer would count as the next call's
            os._exit(0)
        print(reply, file=out, flush=True)


def _end(number: int, frame: object) -> None:
    raise TimeoutError("it takes too long")


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
