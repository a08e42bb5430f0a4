"""Resources of this machine: the GPUs that the user made visible, and its hardware."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

import psutil

SCRATCH = "SHARDMARK_SCRATCH"
"The environment variable for the folder of weight copies; the node expands variables in it (as $SLURM_TMPDIR)."
GPU_ID = re.compile(r"[0-9]+|(GPU|MIG)-[\w/-]+")
LISTED = re.compile(r"\s*(GPU|MIG) .*\(UUID: ([\w/-]+)\)")


class Gpu(NamedTuple):
    """An installed GPU."""

    uuid: str
    parts: tuple[str, ...] = ()
    "The ids of its MIG devices. If there are any, CUDA uses them, not the GPU as a whole."

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that jobs can compute on."""
        return self.parts or (self.uuid,)


Inventory = Callable[[], Sequence[Gpu]]
"Returns the GPUs of a machine in the order of their indices."


def installed_gpus() -> Sequence[Gpu]:
    """The GPUs that nvidia-smi lists: none without it, or if it fails."""
    program = shutil.which("nvidia-smi")
    return _listed(program) if program else ()


@lru_cache  # a driver that must wake its GPUs takes seconds
def _listed(program: str) -> Sequence[Gpu]:
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    gpus: list[Gpu] = []
    for kind, uuid in (found.groups() for line in listing.stdout.splitlines() if (found := LISTED.match(line))):
        if kind == "GPU":
            gpus.append(Gpu(uuid))
        elif gpus:
            gpus[-1] = Gpu(gpus[-1].uuid, (*gpus[-1].parts, uuid))
    return gpus


def visible_gpus(inventory: Inventory = installed_gpus) -> list[str]:
    """The ids of the devices visible by CUDA_VISIBLE_DEVICES, in its order; without it, of all devices.

    Whatever the variable calls a device (an index in nvidia-smi's order, the beginning of a UUID), its id is the UUID,
    so that two names of one device are the same. Names serve as ids only if nvidia-smi is missing. As in CUDA, the
    first word that is not a device ends the list.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return []
    gpus = inventory()
    if visible is None:
        return [device for gpu in gpus for device in gpu.devices]
    names = takewhile(GPU_ID.fullmatch, (part.strip() for part in visible.split(",")))
    ids = takewhile(bool, (_device(name, gpus) for name in names)) if gpus else names
    return list(dict.fromkeys(ids))


def _device(name: str, gpus: Sequence[Gpu]) -> str:
    """The id of the device that CUDA takes for a name; empty if there is none."""
    if name.isdigit():
        return gpus[int(name)].devices[0] if int(name) < len(gpus) else ""
    if "/" in name:  # MIG-GPU-{uuid}/{instance}/{instance}, as some drivers list MIG devices
        return name
    ids = {gpu.uuid: gpu.devices[0] for gpu in gpus} | {part: part for gpu in gpus for part in gpu.parts}
    found = {device for uuid, device in ids.items() if uuid.startswith(name)}
    return found.pop() if len(found) == 1 else ""


def hardware() -> dict[str, object]:
    """The processor, cores, memory (GB) and GPUs of this machine, for the provenance record."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def use_scratch(config: dict[str, Any]) -> None:
    """Tell workers, which inherit this environment, of a disk for weights; jobs of a cluster do this, too."""
    if config.get("scratch"):
        os.environ[SCRATCH] = str(config["scratch"])
