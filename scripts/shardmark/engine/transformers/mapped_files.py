"""Release memory of weights that were read from a mapped file and are no longer needed."""

import ctypes
import os
import re
from pathlib import Path

import torch

MAPPINGS = Path("/proc/self/smaps")
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)")
"The first line of an entry in MAPPINGS: start and end of the memory, and the inode of its file, or 0."
DONT_NEED = 4
"MADV_DONTNEED on Linux."


class MappedFiles:
    """The parts of this process's memory that map files and were never written to, such as loaded weights.

    Pages of them that were read take memory until the mapping ends. They can be released: the next read gets them from
    the file again, which the system most likely still has in memory.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []
        begin = end = inode = 0
        for line in MAPPINGS.open(errors="replace") if MAPPINGS.exists() else ():
            if found := MAPPING.match(line):
                begin, end, inode = int(found[1], 16), int(found[2], 16), int(found[3])
            elif line.startswith("Anonymous:") and inode and int(line.split()[1]) == 0:
                self._parts.append((begin, end))

    def let_go(self, tensor: torch.Tensor) -> bool:
        """Release the pages of a tensor if they come from a file; whether they do."""
        page, begin = os.sysconf("SC_PAGE_SIZE"), tensor.data_ptr()
        end = begin + tensor.untyped_storage().nbytes()
        if not any(first <= begin and end <= last for first, last in self._parts):
            return False
        start = begin - begin % page
        return ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), DONT_NEED) == 0
