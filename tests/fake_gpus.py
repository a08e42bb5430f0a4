"""GPUs that are not there: an nvidia-smi that lists them."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, uuids: Iterable[str]) -> None:
    """Put a program before all others that lists GPUs of these UUIDs, and make them visible."""
    lines = [f"GPU {number}: NVIDIA H100 80GB HBM3 (UUID: {uuid})" for number, uuid in enumerate(uuids)]
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text("\n".join(["#!/bin/sh", 'test "$*" = -L || exit 2', "cat <<END", *lines, "END", ""]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
