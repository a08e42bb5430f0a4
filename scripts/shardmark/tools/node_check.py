"""Check, on a node of a cluster, that it has what a run's jobs need."""

import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shardmark.errors import UserError
from shardmark.plan.machine import visible_gpus
from shardmark.records.node_check import Lack, NodeNeeds
from shardmark.untrusted.sandbox import require_sandbox

SHARED = "put it on a file system that the nodes see, at the same path"
SHOWN = 3
"The most files that a message names."


def lacks(needs: NodeNeeds, results: Path) -> Iterator[Lack]:
    """Everything that this machine lacks; `results` is the folder that jobs write to."""
    unseen = [folder for folder in needs.folders if not os.access(folder, os.R_OK | os.X_OK)]
    yield from (Lack(what=f"{folder} cannot be read there", fix=SHARED) for folder in unseen)
    below = tuple(f"{folder}/" for folder in unseen)
    files = [file for file, size in needs.files.items() if not (_is_there(file, size) or file.startswith(below))]
    if files:
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        what = f"{', '.join(files[:SHOWN])}{more}: missing there, or of another size"
        yield Lack(what=what, fix="wait until the file system shows them to all nodes, or copy them there")
    for name, wanted in needs.packages.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            what = f"its Python has {name} {found}, and the machine that plans has {wanted}"
            yield Lack(what=what, fix="use one environment")
    if needs.gpus and not visible_gpus():
        fix = "name a partition with GPUs: slurm.partition"
        yield Lack(what="no GPU is visible to a job that asks for one", fix=fix)
    yield from (lack for folder in (results, Path(tempfile.gettempdir())) if (lack := _unwritable(folder)))
    if needs.sandbox:
        try:
            require_sandbox()
        except UserError as error:
            yield from (Lack(what=problem.what, fix=problem.fix) for problem in error.problems)


def _is_there(file: str, size: int) -> bool:
    try:
        return os.stat(file).st_size == size and os.access(file, os.R_OK)
    except OSError:
        return False


def _unwritable(folder: Path) -> Lack | None:
    """The lack of a folder that jobs cannot write to, because of its permissions or because its disk is full."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
            file.flush()
    except OSError as error:
        what = f"{folder} cannot be written there: {error.strerror}"
        return Lack(what=what, fix="fix its permissions, or make room")
    return None
