"""One inference job: answer a shard's requests, keeping every answer that is already there.

Answers are appended to a partial file as they come, so that a job that is killed goes on where it stopped. The plan
puts there, too, what the model has answered before in another shard.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shardmark import layout
from shardmark.engine.backend import Backend, open_backend
from shardmark.engine.devices import lease_gpus
from shardmark.engine.scratch import on_scratch
from shardmark.engine.watchdog import Pulse
from shardmark.errors import Problem, UserError
from shardmark.lock.entries import ADD, no_template
from shardmark.plan.chats import shape_problems, template_of
from shardmark.plan.cost import Costs, work
from shardmark.plan.machine import hardware
from shardmark.records.base import find_sealed, read_sealed_record
from shardmark.records.model import Folder, ModelRecord, Staged
from shardmark.records.prediction import Prediction
from shardmark.records.request import Request
from shardmark.records.trailer import Made, Work
from shardmark.store.hashes import HashCache
from shardmark.store.partials import append_partial, partial_files, read_partial
from shardmark.store.predictions import write_predictions
from shardmark.store.requests import read_requests
from shardmark.tasks.requests import chats_of

log = logging.getLogger(__name__)
Tell = Callable[[int, int], None]
LOG_SECONDS = 10.0


class LoadedModel:
    """A model that is loaded when it is first needed, and stays on its devices until `close`."""

    def __init__(self, model: Path, staged: Path, holder: Path | None = None) -> None:
        """`model` is the plan's record, `staged` says where its files are.

        `holder` is the socket of the worker that this is in: it is asked to leave if another needs its devices.
        """
        self.record, self.holder = read_sealed_record(model, ModelRecord), holder
        folders = find_sealed(staged, Staged)
        if not folders:
            raise UserError(Problem(str(staged), "", "it is damaged", "run again: the model is staged anew"))
        self.staged = folders
        self._hashes = HashCache(layout.HASHES.file(layout.MODELS.results(model)))
        self.gpus: list[str] = []
        "The ids of its devices."
        self.gpu_names: list[str] = []
        self.pulse = Pulse()
        self._backend: Backend | None = None
        self._held = ExitStack()

    def backend(self, threads: int) -> tuple[Backend, float]:
        """The backend, which computes with `threads` cores, and the seconds that loading it took just now."""
        seconds = 0.0
        if self._backend is None:
            begin = time.monotonic()
            try:
                self._backend, waited = self._load()
            except BaseException:
                self.close()
                raise
            seconds = time.monotonic() - begin - waited
        self._backend.use_threads(threads)
        return self._backend, seconds

    def _load(self) -> tuple[Backend, float]:
        """Lease the devices and load the model; and the seconds of waiting for devices."""
        begin = time.monotonic()
        with self.pulse.waiting():
            self.gpus = self._held.enter_context(lease_gpus(self.record.settings.num_gpus, holder=self.holder))
            staged = self._held.enter_context(on_scratch(self.staged))
        waited = time.monotonic() - begin
        with self.pulse.loading():
            backend = self._held.enter_context(closing(open_backend(self.record, staged, self.pulse.beat)))
            _refuse_changed_files(self.record, self._hashes)
            self.gpu_names = backend.device_names
        return backend, waited

    def close(self) -> None:
        """Give the devices back."""
        self._held.close()
        self.gpus = []


def _refuse_changed_files(record: ModelRecord, hashes: HashCache) -> None:
    """Raise UserError if a folder that was just loaded is not what the plan saw: answers are filed under its hashes.

    Files are only read again if the file system says that they were touched.
    """
    for location in record.locations:
        if isinstance(location, Folder):
            changed = [path for path, value in _planned(location) if not path.is_file() or hashes.sha256(path) != value]
            if changed:
                what = f"model {record.name}: changed since the plan was made"
                raise UserError(
                    Problem(str(path), "", what, "run again to evaluate what is there now") for path in changed
                )


def _planned(location: Folder) -> Iterator[tuple[Path, str]]:
    return ((Path(location.path) / name, value) for name, value in location.identity.items())


def infer_shard(model: Path, staged: Path, requests: Path, out: Path, threads: int) -> None:
    """Write the predictions of a shard's requests to `out`, with a model that is loaded for this alone.

    `model` is the plan's record, `staged` says where the weights are. Raises UserError for what the user can fix.
    """
    loaded = LoadedModel(model, staged)
    try:
        with tqdm(desc=loaded.record.name, unit="request", disable=None, leave=False) as bar:
            answer_shard(loaded, requests, out, threads, lambda done, total: _advance(bar, done, total))
    finally:
        loaded.close()


def _advance(bar: Any, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def answer_shard(loaded: LoadedModel, requests: Path, out: Path, threads: int, tell: Tell) -> None:
    """Write the predictions of a shard's requests to `out`; `tell` hears of how many requests how many are done.

    Raises UserError for what the user can fix.
    """
    wanted = read_requests(requests)
    known = {p.id: p for path in partial_files(out) for p in read_partial(path) if p.id in wanted}
    missing = {key: request for key, request in wanted.items() if key not in known}
    log.info("%d requests, %d already answered", len(wanted), len(known))
    tokens, record = work(missing.values()), loaded.record
    started, predicted, seconds, load_seconds = _now(), 0.0, 0.0, 0.0
    if missing:
        _check_chats(loaded, missing, out.parent.name)
        predicted = _predicted(record, out, missing, tokens)
        backend, load_seconds = loaded.backend(threads)
        begin = time.monotonic()
        for predictions in _reported(backend.answer(missing), len(missing), tell):
            append_partial(out, predictions)
            known |= {p.id: p for p in predictions}
        seconds = time.monotonic() - begin
    made = Made(
        inferred=len(missing),
        reused=len(wanted) - len(missing),
        seconds=seconds,
        load_seconds=load_seconds,
        work=tokens,
        predicted_seconds=predicted,
        gpus=loaded.gpus if missing else None,
        gpu_names=loaded.gpu_names if missing else None,
        started=started,
        finished=_now(),
        batch_size=record.settings.rows_in_batch,
        hardware=hardware(),
        packages={name: version(name) for name in record.settings.package_names() if find_spec(name)},
    )
    write_predictions(out, [known[key] for key in wanted], made)
    for path in partial_files(out):
        path.unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_chats(loaded: LoadedModel, missing: dict[str, Request], dataset: str) -> None:
    """Raise UserError before a device is taken if there are chats that the model's template does not take."""
    record, folder = loaded.record, loaded.staged.tokenizer
    shapes = dict.fromkeys(chat.shape for request in missing.values() for chat in chats_of(request))
    if not folder or not shapes:
        return
    template = template_of(Path(folder), record.weights)
    if not template:
        raise UserError(Problem(record.file, "meta_template", no_template(record.name, dataset), ADD))
    if problems := shape_problems(record, template, shapes, dataset):
        raise UserError(problems)
    for note in template.notes():
        log.warning("model %s: %s", record.name, note)


def _predicted(record: ModelRecord, out: Path, missing: dict[str, Request], tokens: Work) -> float:
    """Seconds of inference that this job was expected to take."""
    kinds = {request.kind for request in missing.values()}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    costs = Costs(layout.PREDICTIONS.results(out))
    return costs.predict(record, out.parent.name, kind, tokens, len(missing)).inference


def _reported(batches: Iterable[list[Prediction]], total: int, tell: Tell) -> Iterator[list[Prediction]]:
    """The batches, with word of each, and in the log a line now and then."""
    done, said = 0, time.monotonic()
    tell(done, total)
    for batch in batches:
        yield batch
        done += len(batch)
        tell(done, total)
        if time.monotonic() - said > LOG_SECONDS:
            said = time.monotonic()
            log.info("%d of %d requests", done, total)
