"""Run a command of scripts/ as a fork of a process that has its imports done.

warm.py [--if-there] KIND OWNER COMMAND [WORD]...: the kind of that process, the run's own process, the command to run.
"""

import sys

from shardmark.processes.forked import run_forked

if __name__ == "__main__":
    words = sys.argv[1:]
    start = words[:1] != ["--if-there"]
    if len(words) < 3 + (not start):
        sys.exit(__doc__)
    kind, owner, command, *words = words[not start :]
    run_forked(int(owner), kind, command, words, start)
