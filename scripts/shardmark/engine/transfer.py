"""Numbers on their way to the device that computes with them."""

from collections.abc import Sequence
from itertools import chain

import torch


def outgoing(columns: Sequence[Sequence[float]], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Columns of numbers, one after the other, in memory of the host that a GPU can copy from by itself."""
    return torch.tensor(list(chain.from_iterable(columns)), dtype=dtype, pin_memory=device.type == "cuda")


def sent(columns: Sequence[Sequence[float]], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Each column in float64 on the device. They share one transfer, for which the host does not wait."""
    numbers = outgoing(columns, torch.float64, device).to(device, non_blocking=True)
    return numbers.split([len(column) for column in columns])
