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


def serve(memory: int, seconds: float) -> None:
    """Read the file's name, its text and the function's name; then answer calls until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the file prints is not an answer
    signal.signal(signal.SIGPROF, _end)
    file, code, name = json.loads(sys.stdin.readline())
    space: dict[str, object] = {"__name__": "own", "__file__": file}
    function = None
    for line in sys.stdin:
        arguments, settings = json.loads(line)
        random.seed(0)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            if function is None:
                exec(compile(code, file, "exec"), space)
                function = space[name]
            value = function(*arguments, **settings)  # type: ignore[operator]
            reply = json.dumps({"value": value})
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
            words = traceback.format_exception_only(type(error), error)[-1].strip()
            reply = json.dumps({"error": words, "line": places[-1] if places else getattr(error, "lineno", None)})
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(reply, file=out, flush=True)


def _end(number: int, frame: object) -> None:
    raise TimeoutError("it takes too long")


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
