"""Put a stand-in for a scheduler's command on PATH: tests/fake_dlc.py or tests/fake_kubectl.py."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path


def install(name: str, folder: Path, set_variable: Callable[[str, str], None]) -> Path:
    """Make the stand-in's folder, with the command in bin/; its other files are notes of its calls and jobs."""
    command = folder / "bin" / name
    command.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name(f"fake_{name}.py"), command)
    command.write_text(command.read_text().replace("#!/usr/bin/env python", f"#!{sys.executable}", 1))
    command.chmod(0o755)
    set_variable("PATH", f"{command.parent}:{os.environ['PATH']}")
    set_variable("FAKE_SCHEDULER", str(folder))
    return folder
