"""End a worker whose run is over, even if it is stopped and cannot notice; started by worker.py."""

import argparse

from shardmark.processes.guard import guard

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", required=True, help="the worker's process and when it began, as PID-TICKS")
    parser.add_argument("--owner", required=True, help="the run's process, likewise")
    arguments = parser.parse_args()
    guard(arguments.worker, arguments.owner)
