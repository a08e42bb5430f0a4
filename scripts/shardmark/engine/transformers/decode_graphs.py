"""CUDA graphs of decode steps: one call launches all of a step's kernels, on the memory that the first run used.

A graph fits one shape of steps (`DecodeStep.shape`) and the present KV cache. The first step of a shape runs as usual,
which also sets up whatever is made when it is first used; the second is captured after it has run; the third runs both
ways, if no graph of the model has been compared before; the others are replayed. A model that cannot be captured, or
whose first graph gives other logits, is run step by step, and the log says why.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from shardmark.engine.batches import is_out_of_memory
from shardmark.engine.transformers.continuous_attention import DecodeStep
from shardmark.engine.transformers.loading import compute_devices, input_device, precision
from shardmark.engine.transformers.logits import relative_difference

log = logging.getLogger(__name__)

NEAR, ROUGHLY = 1e-3, 0.02
"The largest accepted difference of a graph's logits, relative to the largest logit, in float32 and half precision."
MOST_GRAPHS = 4
"Each keeps the memory of its step. The oldest is dropped."


class DecodeGraphs:
    """The graphs of one model, and the reason if it can have none."""

    def __init__(self, model: PreTrainedModel, fault: str | None = None) -> None:
        self.fault = fault or _why_not(model)
        self.replayed: Callable[[], None] = lambda: None
        "Called at each replay, in which no hook of the model is called."
        self.compared = False
        "Whether a graph gave the right logits."
        self._tolerance = NEAR if precision(model) == torch.float32 else ROUGHLY
        self._seen: set[Any] = set()
        self._kept: dict[Any, tuple[torch.Tensor, Callable[[], torch.Tensor]]] = {}
        "By shape, the inputs of a captured step and its replay, whose logits the next replay overwrites."

    def drop(self) -> None:
        """Forget all graphs: the memory that they use is about to be freed."""
        self._seen.clear()
        self._kept.clear()

    def logits(self, step: DecodeStep, device: torch.device, run: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The logits of a step; `run` computes them from the numbers that the step has read."""
        numbers = step.numbers(device)
        if self.fault:
            step.read(numbers.to(device, non_blocking=True))
            return run()
        if kept := self._kept.get(step.shape):
            inputs, replay = kept
            inputs.copy_(numbers, non_blocking=True)
            found = replay()
            self.replayed()
            if self.compared:
                return found
        step.read(numbers.to(device, non_blocking=True))
        logits = run()
        if kept:
            self._compare(found, logits)
        elif step.shape in self._seen:
            self._capture(step, run)
        self._seen.add(step.shape)
        return logits

    def _compare(self, found: torch.Tensor, wanted: torch.Tensor) -> None:
        difference = relative_difference(found, wanted)
        self.compared = difference <= self._tolerance
        if not self.compared:
            self._give_up(f"the first graph was off by {difference:.2g}")

    def _capture(self, step: DecodeStep, run: Callable[[], torch.Tensor]) -> None:
        def logits(numbers: torch.Tensor) -> torch.Tensor:
            step.read(numbers)  # and forget the masks, which must be part of the graph
            return run()

        if len(self._kept) >= MOST_GRAPHS:
            self._kept.pop(next(iter(self._kept)))
        inputs = step.inputs
        try:
            self._kept[step.shape] = inputs, captured(logits, inputs)
        except Exception as error:  # a model's own code may raise anything where it must not wait for the device
            if is_out_of_memory(error):
                raise
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, fault: str) -> None:
        log.warning("decoding step by step, without CUDA graphs: %s", fault)
        self.fault = fault
        self.drop()


def captured(run: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Capture what `run` does with these inputs; returns what replays it and gives its result."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run(inputs)

    def replay() -> torch.Tensor:
        graph.replay()
        return logits

    return replay


def _why_not(model: PreTrainedModel) -> str | None:
    """The reason why a model's steps are not captured."""
    if input_device(model).type != "cuda":
        return "it is not on a GPU"
    if len(compute_devices(model)) > 1 or any(hasattr(module, "_hf_hook") for module in model.modules()):
        return "its layers are on several devices"
    return "its weights are quantised" if getattr(model, "hf_quantizer", None) else None
