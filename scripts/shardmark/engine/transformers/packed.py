"""Linear layers with float32 weights packed once by oneDNN, on processors where that is faster than torch's usual MKL.

The processors are listed in a table rather than timed when a model is loaded: two loads on one machine must give the
same answers.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from shardmark.engine.transformers.mapped_files import MappedFiles

log = logging.getLogger(__name__)

CPUINFO = Path("/proc/cpuinfo")
FASTER = {("AuthenticAMD", "AVX2"), ("AuthenticAMD", "AVX512"), ("HygonGenuine", "AVX2"), ("HygonGenuine", "AVX512")}
"Vendors, and instruction sets as torch calls them, with which packed weights were measured to be faster."
LEAST_OUTPUTS, LEAST_INPUTS = 512, 256
"Smaller layers are no faster when packed."
ROWS = 32
"The number of input rows to pack weights for; other numbers of rows are multiplied just as well with them."

Packing = Literal["auto"] | bool
Place = tuple[nn.Module, str]
"A module and the name of a layer in it."


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


def pack_linears(model: nn.Module, wanted: Packing) -> bool:
    """Pack the weights of a model's linear layers, one at a time, if that is faster here; whether any was packed.

    `wanted` overrides the choice for any processor. The dense weights are freed, except those shared with an embedding.
    Raises ValueError if packing is wanted and this build of torch cannot do it.
    """
    if wanted is False or getattr(model, "hf_quantizer", None) or (wanted == "auto" and processor() not in FASTER):
        return False
    if fault := _operators_fault():
        if wanted is True:
            raise ValueError(
                f"pack_weights: this build of torch has no such operators ({fault}); leave the setting out"
            )
        log.warning("weights are not packed: this build of torch has no such operators (%s)", fault)
        return False
    places: dict[int, list[Place]] = defaultdict(list)
    for parent, name, layer in _packable(model):
        places[id(layer.weight)].append((parent, name))
    files = MappedFiles()
    for same in places.values():
        _pack(same, files)
    return bool(places)


def _pack(places: list[Place], files: MappedFiles) -> None:
    """Replace layers that share one weight by packed layers, without keeping the dense weight."""
    packed: torch.Tensor | None = None
    for parent, name in places:
        layer: nn.Linear = getattr(parent, name)
        if packed is None:
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            files.let_go(layer.weight)
        setattr(parent, name, PackedLinear(packed, layer.bias))


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


def _packable(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
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
