"""Expected duration of jobs: from the times that the same model took before, else from a prior.

The prior counts floating-point operations: 2 x parameters for each token read or written, at a rate that this kind of
device reaches (FLOPS). Writing also reads all weights from memory once per step (BANDWIDTH), however many answers that
step serves: so there are as many steps as the longest answer has tokens, or more if answers take turns in a batch of
ROWS. Every answer is assumed to reach its limit. A job and each of its requests take some time outside the model, which
is most of the time with a tiny model. The prior should be right within a small factor. It is then corrected by the
measured times of finished jobs over their prior: by the ratio of the same model on the same data set, else of the same
model on data sets of the same kind, else of the other models on this kind of device.

results/plans/costs.json holds the sums from which these ratios are computed. They are updated while planning and after
each run.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from shardmark import layout
from shardmark.config.protocols import COSTS
from shardmark.config.wording import WordedConfig
from shardmark.files import canonical_json, read_sealed, sealed, write_whole
from shardmark.records.base import Record, convert, to_json
from shardmark.records.model import ModelRecord, Service
from shardmark.records.request import GenerateRequest, Request
from shardmark.records.trailer import Trailer, Work
from shardmark.store.predictions import read_trailer
from shardmark.tasks.requests import characters, shared_characters, texts_of

CHARACTERS_PER_TOKEN = 4
FLOPS = {"cpu": 1e11, "gpu": 5e13}
BANDWIDTH = {"cpu": 1e10, "gpu": 1e12}
"Bytes per second."
STEP_SECONDS = {"cpu": 0.0, "gpu": 0.02}
"Seconds for launching the kernels of a step."
ROWS = 128
JOB_SECONDS, REQUEST_SECONDS = 0.01, 0.0005
"Seconds for a job, and for each request, outside the model: reading, tokenizing, writing."
REPLY_SECONDS, REPLY_TOKENS, IN_FLIGHT = 0.5, 50.0, 20
"An endpoint's seconds for a request, its tokens per second, and the number of requests it answers at once."
UNKNOWN_PARAMETERS = 1_000_000_000
"Assumed for a model whose size is unknown."
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
"Bytes per parameter."
LOAD_SECONDS = {"cpu": 1.0, "gpu": 10.0}
"""Seconds for loading a small model; weights add to it at READ_BYTES_PER_SECOND.

Workers on CPUs are forks of a warm process; one with GPUs imports torch and starts CUDA first.
"""
READ_BYTES_PER_SECOND = 5e8


class Tokens(Protocol):
    """Token counts of some requests, with the meanings that they have in `Work`."""

    @property
    def read(self) -> float: ...
    @property
    def written(self) -> float: ...
    @property
    def longest(self) -> float: ...


class Share(NamedTuple):
    """A share of the work of a shard."""

    read: float
    written: float
    longest: float


class Sums(Record):
    """Measurements of a model on a data set: seconds and their prior, of inference and of loads."""

    stamp: int
    "The time of the last change to the folder of its predictions, in ns."
    kind: str
    device: str
    seconds: float
    seconds_prior: float
    load_seconds: float
    load_seconds_prior: float

    @property
    def inference(self) -> tuple[float, float]:
        """Seconds of inference and their prior."""
        return self.seconds, self.seconds_prior

    @property
    def load(self) -> tuple[float, float]:
        """Seconds of loads and their prior."""
        return self.load_seconds, self.load_seconds_prior


def work(requests: Iterable[Request]) -> Work:
    """The tokens to read and to write for some requests, from their text; a common beginning is read once."""
    requests = list(requests)
    head = shared_characters([texts_of(request)[0] for request in requests])
    rest = sum(max(0, characters(request) - head) for request in requests)
    return tokens_of((head + rest) // CHARACTERS_PER_TOKEN, [_limit(request) for request in requests])


def request_tokens(request: Request, head: int) -> tuple[int, int]:
    """The tokens to read for a request, without its first `head` characters, and the most tokens to write."""
    return max(0, characters(request) - head) // CHARACTERS_PER_TOKEN, _limit(request)


def _limit(request: Request) -> int:
    return request.max_new_tokens if isinstance(request, GenerateRequest) else 0


def tokens_of(read: int, written: Iterable[int]) -> Work:
    """The work of some requests: tokens to read, to write, and to write for the `longest` answer."""
    written = list(written)
    return Work(read=read, written=sum(written), longest=max(written, default=0))


def prior_seconds(model: ModelRecord, tokens: Tokens, requests: float = 0) -> float:
    """Seconds of inference for a number of requests with these tokens, for a model that has not been measured.

    Without `requests`, the time outside the model, per job and per request, is left out.
    """
    if model.settings.elsewhere:
        waiting = REPLY_SECONDS * requests + _written(model, tokens)[1] / REPLY_TOKENS
        return (JOB_SECONDS if requests else 0.0) + waiting / IN_FLIGHT
    size, device = weight_bytes(model), _device(model)
    parameters = size / WIDTHS[model.dtype or "float32"]
    longest, written = _written(model, tokens)
    computing = 2 * parameters * (tokens.read + written) / FLOPS[device]
    steps = max(longest, written / ROWS)
    beside = JOB_SECONDS + REQUEST_SECONDS * requests if requests else 0.0
    return beside + computing + steps * (size / BANDWIDTH[device] + STEP_SECONDS[device])


def _written(model: ModelRecord, tokens: Tokens) -> tuple[float, float]:
    """Tokens of the longest answer and of all, after max_out_len cuts them and thoughts are added.

    All answers are assumed to be cut or extended in the same proportion.
    """
    longest = tokens.longest
    if not longest:
        return 0, tokens.written
    settings = model.settings
    limit = settings.answer_tokens(int(longest))
    limit += settings.thought_tokens if isinstance(settings, WordedConfig) else 0
    return limit, tokens.written * (limit / longest)


def prior_load_seconds(model: ModelRecord) -> float:
    """Seconds until a job of a model that has not been measured answers its first request."""
    if model.settings.elsewhere:
        return 0.0
    return LOAD_SECONDS[_device(model)] + weight_bytes(model) / READ_BYTES_PER_SECOND


def weight_bytes(model: ModelRecord) -> int:
    """Bytes of a model's weights in memory, in the dtype it runs in, as far as known."""
    if isinstance(model.source, Service):
        return 0
    count = model.parameters or UNKNOWN_PARAMETERS
    return int(count * WIDTHS[model.dtype or "float32"])


def _device(model: ModelRecord) -> str:
    if model.settings.elsewhere:
        return "endpoint"
    return "gpu" if model.on_gpus else "cpu"


class Seconds(NamedTuple):
    """Expected seconds of a job."""

    inference: float
    load: float
    "For a model that is not loaded yet: a worker that has done a shard keeps it for the next one."

    @property
    def total(self) -> float:
        """Seconds of inference and load."""
        return self.inference + self.load


class Costs:
    """Measurements in a results folder, by model (name@digest) and data set."""

    def __init__(self, results: Path) -> None:
        self.results, self.path = results, layout.COSTS.file(results)
        self._medians: dict[tuple[str, str | None], float] = {}
        self._changed = False
        try:
            self._sums = _same_prior(convert(read_sealed(self.path), _Costs)).measured
        except ValueError:
            self._sums = {}  # lost, damaged or of another version: measured again from the prediction files

    def measure(self, model: ModelRecord, dataset: str, kind: str) -> None:
        """Take in the measurements of a model on a data set, if its predictions have changed since the last time."""
        folder = layout.PREDICTIONS.folder(self.results, model=model.full_name, dataset=dataset)
        try:
            stamp = folder.stat().st_mtime_ns
        except OSError:
            return  # nothing has been inferred; sums of files that were removed stay true
        known = self._sums.setdefault(model.full_name, {})
        if dataset not in known or known[dataset].stamp != stamp:
            trailers = [trailer for path in sorted(folder.glob("*.jsonl")) if (trailer := read_trailer(path))]
            known[dataset] = _sums(stamp, kind, model, trailers)
            self._medians.clear()
            self._changed = True

    def predict(self, model: ModelRecord, dataset: str, kind: str, tokens: Tokens, requests: int) -> Seconds:
        """The expected seconds of a job with this many requests and tokens."""
        own = self._sums.get(model.full_name, {})
        same = [own[dataset]] if dataset in own else []
        alike = [sums for sums in own.values() if sums.kind == kind]
        inference = _inference_ratio(same) or _inference_ratio(alike) or self._median(_device(model), kind)
        load = _load_ratio(own.values()) or self._median(_device(model), None)
        return Seconds(inference * prior_seconds(model, tokens, requests), load * prior_load_seconds(model))

    def measured(self, model: ModelRecord, dataset: str, kind: str) -> bool:
        """Whether a prediction rests on measurements of this model for requests of this kind."""
        own = self._sums.get(model.full_name, {})
        return bool(_inference_ratio(sums for name, sums in own.items() if name == dataset or sums.kind == kind))

    def _median(self, device: str, kind: str | None) -> float:
        """The median ratio of all pairs on a kind of device: inference for a kind of data set, or (None) loads."""
        if (device, kind) not in self._medians:
            alike = [s for sums in self._sums.values() for s in sums.values() if s.device == device]
            of = _inference_ratio if kind else _load_ratio
            ratios = [ratio for s in alike if kind in (None, s.kind) and (ratio := of([s]))]
            self._medians[device, kind] = statistics.median(ratios) if ratios else 1.0
        return self._medians[device, kind]

    def save(self) -> None:
        """Write back new measurements."""
        if self._changed:
            write_whole(self.path, canonical_json(sealed(to_json(_Costs(measured=self._sums, prior=COSTS)))) + "\n")
            self._changed = False


class _Costs(Record):
    """results/plans/costs.json."""

    measured: dict[str, dict[str, Sums]]
    prior: int
    "The version of the prior that all measurements were made with."


def _same_prior(costs: _Costs) -> _Costs:
    if costs.prior != COSTS:
        raise ValueError("made with another prior")
    return costs


def _sums(stamp: int, kind: str, model: ModelRecord, trailers: list[Trailer]) -> Sums:
    """Measurements from trailers, which may still be unchecked."""
    inferred = [(trailer, trailer.work) for trailer in trailers if trailer.work and trailer.inferred]
    loads = [trailer.load_seconds for trailer, _ in inferred if trailer.load_seconds]
    return Sums(
        stamp=stamp,
        kind=kind,
        device=_device(model),
        seconds=sum(trailer.seconds for trailer, _ in inferred),
        seconds_prior=sum(prior_seconds(model, work, trailer.inferred) for trailer, work in inferred),
        load_seconds=sum(loads),
        load_seconds_prior=len(loads) * prior_load_seconds(model),
    )


def _inference_ratio(sums: Iterable[Sums]) -> float | None:
    return _ratio(one.inference for one in sums)


def _load_ratio(sums: Iterable[Sums]) -> float | None:
    return _ratio(one.load for one in sums)


def _ratio(pairs: Iterable[tuple[float, float]]) -> float | None:
    """The measured total over the total of the priors; None without measurements."""
    pairs = list(pairs)
    expected = sum(prior for _, prior in pairs)
    return sum(measured for measured, _ in pairs) / expected if expected else None
