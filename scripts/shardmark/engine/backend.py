"""What answers requests: the seam between a job and whatever runs its model.

To add a backend, put NAME.py into config/backends/: it has `SETTINGS`, a ModelConfig that says which keys the file of a
model with `backend: NAME` has, what of them changes answers, and which function makes the Backend of such a model. See
docs/architecture.md, "Backends".
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from shardmark.records.model import ModelRecord, Staged
from shardmark.records.prediction import Prediction
from shardmark.records.request import Request

Beat = Callable[[], None]
"Called with each sign of progress, so that a watchdog tells work from a hang."


class Backend(ABC):
    """A model that is ready to answer. It stays until `close`, over many shards."""

    @abstractmethod
    def answer(self, requests: Mapping[str, Request]) -> Iterator[list[Prediction]]:
        """The predictions of requests by id, in lists as they are done, each once.

        What is yielded is kept at once, so a job that is killed asks the rest only. Raises UserError naming model and
        request.
        """

    def use_threads(self, count: int) -> None:  # noqa: B027  # a backend that computes elsewhere has none to bound
        """Compute with this many cores from now on."""

    @property
    def device_names(self) -> list[str]:
        """What its GPUs are called, such as NVIDIA H100; none on a CPU or elsewhere."""
        return []

    def close(self) -> None:  # noqa: B027  # most give back what they hold when their process ends
        """Give back what it holds."""


Factory = Callable[[ModelRecord, Staged, Beat], Backend]


def open_backend(record: ModelRecord, staged: Staged, beat: Beat) -> Backend:
    """The backend of a model, loaded from the folders that it was staged in. Raises UserError.

    Its module is imported here and not before: a lease must set CUDA_VISIBLE_DEVICES before torch is imported, and
    what another backend needs may not be installed.
    """
    module, _, name = record.settings.factory.partition(":")
    factory: Factory = getattr(import_module(module), name)
    return factory(record, staged, beat)
