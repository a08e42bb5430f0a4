"""The interface between a job and the engine that runs its model.

To add a backend, put NAME.py into config/backends/. It defines `SETTINGS`, a ModelConfig that says which keys the model
file has with `backend: NAME`, which of them change answers, and which function makes the Backend of such a model. See
docs/architecture.md, "Backends".
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

from shardmark.processes.imports import without_collection
from shardmark.records.engine import EngineUse
from shardmark.records.model import ModelRecord, Staged
from shardmark.records.prediction import Prediction
from shardmark.records.request import Request
from shardmark.store.partials import PartialStore

Beat = Callable[[], None]
"Called with each sign of progress, so that a watchdog can tell work from a hang."


class Backend(ABC):
    """A model that is ready to answer. It stays loaded until `close`, over many shards."""

    @abstractmethod
    def answer(self, requests: Mapping[str, Request]) -> Iterator[list[Prediction]]:
        """The predictions of requests by id, in lists as they are finished, each once.

        The job stores each list as soon as it is yielded, so a job that was killed asks only the rest. The iterator is
        closed when nobody waits for the rest. Raises UserError naming model and request.
        """

    def use_store(self, store: PartialStore) -> None:  # noqa: B027  # most backends store only whole answers
        """Store unfinished answers to the next requests there, and take over those that were stored before."""

    def use_threads(self, count: int) -> None:  # noqa: B027  # a backend that computes elsewhere uses no cores
        """Compute with `count` cores from now on."""

    def join(self, results: Path, owner: int) -> None:  # noqa: B027  # most backends share nothing with other jobs
        """Share the limits of a results folder, and of the run with the process id `owner`, with the other jobs."""

    @property
    def device_names(self) -> list[str]:
        """Names of the model's GPUs, such as NVIDIA H100; none on a CPU or elsewhere."""
        return []

    @property
    def methods(self) -> Mapping[str, str]:
        """How it computes, by part of the work, if not in the usual way; it affects the last digits of scores."""
        return {}

    def use(self) -> EngineUse | None:
        """Facts about the engine to store with the answers, for a backend with several engines."""
        return None

    def close(self) -> None:  # noqa: B027  # most backends release everything when their process ends
        """Release all resources."""


Factory = Callable[[ModelRecord, Staged, Beat], Backend]


def open_backend(record: ModelRecord, staged: Staged, beat: Beat, engine: str = "") -> Backend:
    """The backend of a model, loaded from the folders where it was staged. Raises UserError.

    `engine` is the name of one of the model's engines, if it has several. The backend's module is imported only here: a
    lease must set CUDA_VISIBLE_DEVICES before torch is imported, and the packages of other backends may not be
    installed.
    """
    module, _, name = record.settings.factory_of(engine).partition(":")
    with without_collection():
        factory: Factory = getattr(import_module(module), name)
    return factory(record, staged, beat)
