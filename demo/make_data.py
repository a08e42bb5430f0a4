"""Write the demo's four test sets to data/*.jsonl. Same seed, same files, on any machine."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from generators import TASKS, Row, Task, draw_set, keys_of, write_rows


def check(task: Task, rows: list[Row]) -> None:
    """Assert what a report relies on: unique ids and items, and balanced labels."""
    assert len({row["id"] for row in rows}) == len(rows)
    assert len(keys_of(task, rows)) == len(rows)
    if task.labels > 1:
        counts = [sum(row["label"] == label for row in rows) for label in range(task.labels)]
        assert max(counts) - min(counts) <= 1, counts


def main() -> None:
    """Draw, check and write every test set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data", help="output folder")
    parser.add_argument("--rows", type=int, default=200, help="rows per test set")
    parser.add_argument("--seed", type=int, default=20240501, help="seed of all test sets")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    for task in TASKS.values():
        # One generator per task: a change to one task leaves the other files as they were.
        rows = draw_set(task, args.rows, random.Random(f"{args.seed}-test-{task.name}"))
        check(task, rows)
        write_rows(args.out / f"{task.name}.jsonl", rows)
        print(f"{task.name}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    main()
