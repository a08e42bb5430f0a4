"""Ask the package registry whether each pinned package can be had for other versions of Python.

It resolves only, for this machine's platform: nothing is installed, and no such Python needs to be here. Pins hold
their own dependencies, so each is looked up by itself.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


def pins(file: Path, version: str) -> list[str]:
    """The pins of a file that hold for a version of Python; pip asks its own Python about markers."""
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line]
    environment = {"python_version": version, "python_full_version": f"{version}.0"}
    return [f"{each.name}{each.specifier}" for each in wanted if not each.marker or each.marker.evaluate(environment)]


def fault(file: Path, version: str) -> str | None:
    """What pip cannot find for a version of Python; None if it finds all."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--dry-run", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "pins.txt")
        wanted.write_text("\n".join(pins(file, version)))
        command += ["--no-deps", "--ignore-installed", "--target", folder, "--python-version", version]
        done = subprocess.run([*command, "--requirement", str(wanted)], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS, help=f"by default {' '.join(VERSIONS)}")
    parser.add_argument("--requirements", type=Path, default=Path("envs/requirements.txt"))
    arguments = parser.parse_args()
    found = {version: fault(arguments.requirements, version) for version in arguments.versions}
    for version, what in found.items():
        print(f"Python {version}: {what or 'all pins are available'}")
    sys.exit(any(found.values()))
