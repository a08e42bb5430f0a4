"""One inference job: answer a shard's requests, keeping the answers that are already there.

Answers are appended to a partial file as they come, so that a job that was killed continues where it stopped. The plan
also puts there the answers that the model gave before in other shards.
"""

import logging
import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
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
from shardmark.plan.chats import shape_problems, template_of, unread_arguments
from shardmark.plan.cost import Costs, work
from shardmark.plan.machine import hardware
from shardmark.records.base import find_sealed, read_sealed_record
from shardmark.records.engine import EngineUse
from shardmark.records.model import Folder, HubRepository, ModelRecord, Staged
from shardmark.records.prediction import Prediction
from shardmark.records.request import Request
from shardmark.records.trailer import Made, Work, both
from shardmark.store.contents import ContentHashes, faults
from shardmark.store.hashes import HashCache
from shardmark.store.hub_cache import named_by_content
from shardmark.store.partials import PartialStore, append_partial, partial_files, read_partial, taken_in
from shardmark.store.predictions import write_predictions
from shardmark.store.requests import read_requests
from shardmark.tasks.requests import chats_of

log = logging.getLogger(__name__)
Tell = Callable[[int, int], None]
LOG_SECONDS = 10.0


class LoadedModel:
    """A model that is loaded when it is first needed, and stays on its devices until `close`."""

    def __init__(
        self, model: Path, staged: Path, holder: Path | None = None, engine: str = "", owner: int | None = None
    ) -> None:
        """`model` is the plan's record, `staged` is the file that says where the model's files are.

        `holder` is the socket of the worker that this runs in: it is asked to leave if another process needs its
        devices. `engine` is the name of one of the model's engines, if it has several. `owner` is the process id of the
        run; None for this process.
        """
        self.engine = engine
        self.record, self.holder = read_sealed_record(model, ModelRecord), holder
        self._results, self._owner = layout.MODELS.results(model), owner or os.getpid()
        folders = find_sealed(staged, Staged)
        if not folders:
            raise UserError(Problem(str(staged), "", "it is damaged", "run again to stage the model again"))
        self.staged = folders
        self._hashes = HashCache(layout.HASHES.file(self._results))
        self._contents = ContentHashes(self._results)
        self.gpus: list[str] = []
        "The ids of its devices."
        self.gpu_names: list[str] = []
        self.pulse = Pulse()
        self._backend: Backend | None = None
        self._held = ExitStack()

    @property
    def is_loaded(self) -> bool:
        """Whether it holds its devices and memory."""
        return self._backend is not None

    def backend(self, threads: int) -> tuple[Backend, float]:
        """The backend, which computes with `threads` cores, and the seconds that loading it took in this call."""
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
        """Lease the devices and load the model; returns it with the seconds spent waiting for devices."""
        with self.pulse.loading():
            self._refuse_other_contents()
        begin = time.monotonic()
        with self.pulse.waiting():
            self.gpus = self._held.enter_context(lease_gpus(self.record.settings.num_gpus, holder=self.holder))
            staged = self._held.enter_context(on_scratch(self.staged))
        waited = time.monotonic() - begin
        with self.pulse.loading():
            backend = self._held.enter_context(closing(open_backend(self.record, staged, self.pulse.beat, self.engine)))
            _refuse_changed_files(self.record, self._hashes)
            self._refuse_other_contents()  # reads only files touched meanwhile
            backend.join(self._results, self._owner)
            self.gpu_names = backend.device_names
        return backend, waited

    def _refuse_other_contents(self) -> None:
        """Raise UserError for each file from the Hub that, as read by this node, is not the file of its commit."""
        places = ((self.record.source, self.staged.model), (self.record.tokenizer, self.staged.tokenizer))
        for place, folder in (*places, (self.record.adapter, self.staged.adapter)):
            if isinstance(place, HubRepository) and folder:
                files = place.files or named_by_content(Path(folder))
                if wrong := faults(Path(folder), files, self._contents):
                    what, fix = f"model {self.record.name}: ", "remove it and run again to stage it again"
                    raise UserError(Problem(str(fault.path), "", what + fault.what, fix) for fault in wrong)
        self._contents.save()

    def close(self) -> None:
        """Release the devices."""
        self._held.close()
        self.gpus = []


def _refuse_changed_files(record: ModelRecord, hashes: HashCache) -> None:
    """Raise UserError if the loaded folder differs from the planned one: answers are filed under its hashes.

    Files are only read again if the file system says that they were touched.
    """
    for location in record.locations:
        if isinstance(location, Folder):
            planned = ((Path(location.path) / name, value) for name, value in location.identity.items())
            changed = [path for path, value in planned if not path.is_file() or hashes.sha256(path) != value]
            if changed:
                what = f"model {record.name}: changed since the plan was made"
                raise UserError(
                    Problem(str(path), "", what, "run again to evaluate what is there now") for path in changed
                )


def infer_shard(model: Path, staged: Path, requests: Path, out: Path, threads: int) -> None:
    """Write the predictions of a shard's requests to `out`, with a model loaded for this shard only.

    `model` is the plan's record, `staged` is the file that says where the weights are. Raises UserError for problems
    that the user can fix.
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


def answer_shard(
    loaded: LoadedModel,
    requests: Path,
    out: Path,
    threads: int,
    tell: Tell,
    kinds: Collection[str] | None = None,
    before: Made | None = None,
) -> Made:
    """Write the predictions of a shard's requests to `out`; `tell` is called with the numbers of done and all requests.

    If several engines share a shard, each answers the requests of its `kinds`, and `before` says how earlier engines
    answered theirs. The one that finds none left writes the file; until then, answers stay in the partial file. Returns
    how the answers were made. Raises UserError for problems that the user can fix.
    """
    wanted = read_requests(requests)
    known = {p.id: p for path in partial_files(out) for p in read_partial(path) if p.id in wanted}
    missing = {key: request for key, request in wanted.items() if key not in known}
    if kinds is not None:
        missing = {key: request for key, request in missing.items() if request.kind in kinds}
    log.info("%d requests, %d already answered", len(wanted), len(known))
    tokens, record = work(missing.values()), loaded.record
    started, predicted, seconds, load_seconds = _now(), 0.0, 0.0, 0.0
    use: EngineUse | None = None
    machine = hardware()
    if missing:
        _check_chats(loaded, missing, out.parent.name)
        predicted = _predicted(record, out, missing, tokens)
        backend, load_seconds = loaded.backend(threads)
        begin = time.monotonic()
        backend.use_store(PartialStore(out))
        with _closing(backend.answer(missing)) as answers:
            for predictions in _reported(answers, len(missing), tell):
                append_partial(out, predictions)
                known |= {p.id: p for p in predictions}
        seconds = time.monotonic() - begin
        use = backend.use()
        machine |= backend.methods
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
        hardware=machine,
        packages=_versions(record.settings.package_names()),
        engines=[use] if use else [EngineUse(name=loaded.engine)] if loaded.engine else [],
        taken=taken_in(partial_files(out), wanted),
    )
    made = both(before, made) if before else made
    if len(known) == len(wanted):
        write_predictions(out, [known[key] for key in wanted], made)
        for path in partial_files(out):
            path.unlink(missing_ok=True)
    return made


def _versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that are installed here. Builds of vLLM may have other package names."""
    found = {}
    for name in names:
        for distribution in (name, f"{name}-cpu"):
            with suppress(PackageNotFoundError):
                found[name] = version(distribution)
                break
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_chats(loaded: LoadedModel, missing: dict[str, Request], dataset: str) -> None:
    """Raise UserError, before a device is taken, for chats that the model's template does not accept."""
    record, folder = loaded.record, loaded.staged.tokenizer
    shapes = dict.fromkeys(chat.shape for request in missing.values() for chat in chats_of(request))
    if not folder or not shapes:
        return
    template = template_of(Path(folder), record.wording)
    if not template:
        raise UserError(Problem(record.file, "meta_template", no_template(record.name, dataset), ADD))
    if problems := [*shape_problems(record, template, shapes, dataset), *unread_arguments(record, Path(folder))]:
        raise UserError(problems)
    for note in template.notes():
        log.warning("model %s: %s", record.name, note)


def _predicted(record: ModelRecord, out: Path, missing: dict[str, Request], tokens: Work) -> float:
    """The expected seconds of inference of this job."""
    kinds = {request.kind for request in missing.values()}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    costs = Costs(layout.PREDICTIONS.results(out))
    return costs.predict(record, out.parent.name, kind, tokens, len(missing)).inference


@contextmanager
def _closing(answers: Iterator[list[Prediction]]) -> Iterator[Iterator[list[Prediction]]]:
    """A block that closes a generator at its end, because nobody waits for the rest."""
    try:
        yield answers
    finally:
        if isinstance(answers, Generator):
            answers.close()


def _reported(batches: Iterable[list[Prediction]], total: int, tell: Tell) -> Iterator[list[Prediction]]:
    """The batches; `tell` is called after each, and a line is logged now and then."""
    done, said = 0, time.monotonic()
    tell(done, total)
    for batch in batches:
        yield batch
        done += len(batch)
        tell(done, total)
        if time.monotonic() - said > LOG_SECONDS:
            said = time.monotonic()
            log.info("%d of %d requests", done, total)
