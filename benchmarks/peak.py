"""A process's peak memory. No module but Python's own: lm-eval's environment imports it, too."""

from pathlib import Path


def peak_mib() -> float:
    """Peak resident memory of this process, in MiB.

    By Linux's own account of this program: what `getrusage` says begins with the peak of whoever started it.
    """
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
