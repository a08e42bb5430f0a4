"""Linear layers with float32 weights packed once by oneDNN, on processors where that is faster than torch's usual MKL.

The processors are listed in a table rather than timed when a model is loaded: two loads on one machine must give the
same answers.
"""

import logging
import weakref
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shardmark.engine.transformers.mapped_files import MappedFiles

log = logging.getLogger(__name__)

CPUINFO = Path("/proc/cpuinfo")
FASTER = {(vendor, level) for vendor in ("AuthenticAMD", "HygonGenuine") for level in ("AVX2", "AVX512")}
FASTER |= {("GenuineIntel", "AVX512")}
"Vendors, and instruction sets as torch calls them, with which packed weights were measured to be faster."
LEAST_OUTPUTS, LEAST_INPUTS = 512, 256
"Smaller layers are no faster when packed."
ROWS = 32
"The number of input rows to pack weights for; other numbers of rows are multiplied just as well with them."

Place = tuple[nn.Module, str, nn.Linear]
"A module, the name of a layer in it, and that layer as it was."


class PackedLinear(nn.Module):
    """A linear layer that stores its weight as packed by oneDNN. float32 on the CPU, and for inference only."""

    def __init__(self, packed: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.bias = bias
        self._packed = packed

    @property
    def weight(self) -> torch.Tensor:
        """The original weight, unpacked each time it is read; calling the layer does not need it."""
        return self._packed.to_dense()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The layer's outputs, `[..., out_features]`."""
        if inputs.dtype != torch.float32:
            return nn.functional.linear(inputs, self.weight, self.bias)
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self.bias, "none", [], "")
        return outputs

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


@dataclass
class PackedLayers:
    """The layers of a model that were packed, and can be as they were again."""

    groups: list[tuple[torch.Tensor, "weakref.ref[torch.Tensor]", list[Place]]] = field(default_factory=list)
    "Packed weights, the weights that they were made of, and the layers that shared each."

    def pack(self, same: list[Place], files: MappedFiles) -> None:
        """Replace layers that share one weight by packed layers, without keeping the dense weight."""
        weight = same[0][2].weight
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        files.let_go(weight)
        self.groups.append((packed, weakref.ref(weight), same))
        for parent, name, layer in same:
            setattr(parent, name, PackedLinear(packed, layer.bias))
            layer.register_parameter("weight", None)

    def unpack(self) -> None:
        """Put the layers back, with the same weights to the last bit."""
        while self.groups:
            packed, reference, same = self.groups.pop()
            weight = reference()  # an embedding has kept it
            if weight is None:
                weight = nn.Parameter(packed.to_dense(), requires_grad=False)
            for parent, name, layer in same:
                layer.register_parameter("weight", weight)
                setattr(parent, name, layer)


def is_faster() -> bool:
    """Whether packed weights are known to be faster on this processor, and this build of torch can pack them."""
    if processor() not in FASTER:
        return False
    if fault := _operators_fault():
        log.warning("weights are not packed: this build of torch has no such operators (%s)", fault)
    return not fault


def pack_linears(model: nn.Module, but: nn.Module | None = None) -> PackedLayers:
    """Pack the weights of a model's linear layers but one, one at a time; quantised ones stay.

    The dense weights are freed, except those shared with an embedding. Raises ValueError if this build of torch cannot.
    """
    layers = PackedLayers()
    if getattr(model, "hf_quantizer", None):
        return layers
    if fault := _operators_fault():
        raise ValueError(f"pack_weights: this build of torch has no such operators ({fault}); leave the setting out")
    places: dict[int, list[Place]] = defaultdict(list)
    for place in _packable(model):
        if place[2] is not but:
            places[id(place[2].weight)].append(place)
    files = MappedFiles()
    try:
        for same in places.values():
            layers.pack(same, files)
    except BaseException:  # out of memory, say: no later job may find some layers packed
        layers.unpack()
        raise
    return layers


def processor() -> tuple[str, str]:
    """The vendor of this machine's processor, and the instruction set that torch uses on it."""
    vendor = ""
    if CPUINFO.exists():
        lines = (line.split(":", 1) for line in CPUINFO.open(errors="replace") if line.startswith("vendor_id"))
        vendor = next((parts[-1].strip() for parts in lines), "")
    return vendor, torch.backends.cpu.get_cpu_capability()


def _operators_fault() -> str:
    """The reason why this build of torch cannot pack weights and multiply with them; empty if it can.

    The operators are internal to torch: they may be missing, or take other arguments.
    """
    weight, inputs = torch.eye(2, 3), torch.ones(1, 3)
    try:
        packed = PackedLinear(torch.ops.mkldnn._reorder_linear_weight(weight, ROWS), None)
        is_right = torch.equal(packed(inputs), torch.ones(1, 2)) and torch.equal(packed.weight, weight)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if is_right else "its packed products are wrong"


def _packable(model: nn.Module) -> Iterator[Place]:
    """The linear layers worth packing, with their parent modules and names."""
    for parent in model.modules():
        if _reads_weights(parent):
            continue
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear and _is_plain(layer):
                yield parent, name, layer


def _is_plain(layer: nn.Linear) -> bool:
    """Whether a layer only multiplies, on the CPU and in float32, and is large enough. Layers with hooks are not."""
    weight, hooks = layer.weight, (layer._forward_hooks, layer._forward_pre_hooks, getattr(layer, "_hf_hook", None))
    return (
        type(weight) is nn.Parameter
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and layer.out_features >= LEAST_OUTPUTS
        and layer.in_features >= LEAST_INPUTS
        and not any(hooks)
    )


def _reads_weights(parent: Any) -> bool:
    """Whether a module reads its layers' weights instead of calling them, like many of PEFT's, but not plain LoRA."""
    module, variants = type(parent).__module__, getattr(parent, "lora_variant", None)
    return module.startswith("peft.") and (module != "peft.tuners.lora.layer" or bool(variants))
