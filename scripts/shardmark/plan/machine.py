"""What this machine offers: GPUs the user made visible, and what it is made of."""

import os
import platform
import re
import subprocess
from itertools import takewhile

GPU_ID = re.compile(r"[0-9]+|(GPU|MIG)-[\w/-]+")


def visible_gpus() -> list[str]:
    """The ids of the GPUs that CUDA_VISIBLE_DEVICES leaves visible: indices, UUIDs or MIG ids, in its order.

    Without that variable, the indices of all GPUs that nvidia-smi lists. As in CUDA, the first "-1" or other word that
    is no id ends the list.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(index) for index in range(_installed_gpus())]
    ids = takewhile(GPU_ID.fullmatch, (part.strip() for part in visible.split(",")))
    return list(dict.fromkeys(ids))


def _installed_gpus() -> int:
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def hardware() -> dict[str, object]:
    """The processor, cores, memory (GB) and GPUs of this machine, for the provenance record."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages * page / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
