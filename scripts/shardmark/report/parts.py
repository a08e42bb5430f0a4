"""Parts: the data that a report takes from a pair's file of samples, kept in the results folder for the next report.

A part has the chunks of a pair's texts, with the facts for filtering: verdicts, marks and scores. It is made from bytes
of the file without decoding the texts in them. Rows and prompts that models share are the same JSON for each, and so
one chunk. A part is kept under the digest of the file, of the settings that it depends on, and of this code.
"""

import functools
import math
import sys
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import digest, file_sha256
from shardmark.records.base import Record, Unreadable
from shardmark.records.sample import LAYERS, SampleParts, read_parts
from shardmark.records.score import Scores
from shardmark.scoring.statistics import estimate_mean
from shardmark.store.hashes import HashCache

from .chunks import Chunks, link
from .inputs import ANEW
from .pair import Pair
from .profiles import Profile, Profiler

CHUNK_BYTES = 256 * 1024
CHUNK_ROWS = 500
"A chunk is closed when it has this many bytes of JSON, or this many samples."
PART = "part.json"

VERDICTS = ("unscored", "wrong", "partial", "right")
NO_ANSWER, CUT, TRUNCATED, TIED, REFUSED, ALONE, WITHIN = (1 << bit for bit in range(2, 9))
"Marks of a sample, besides its verdict in the lowest two bits."
LIMITS = {"length", "time"}
"The ends of outputs that were cut."
REFUSALS = {"refusal", "filter"}


class Stretch(NamedTuple):
    """A chunk and the index of its first sample."""

    start: int
    chunk: str


class GroupMean(NamedTuple):
    """The samples of one group of a pair: their number, their mean primary score, and its 95 % interval."""

    name: str
    n: int
    mean: float | None
    ci95: tuple[float, float] | None


class Names(Record, frozen=True, kw_only=True):
    """The names, groups and clusters of a pair's samples, which most pairs of a data set have in common."""

    ids: list[str]
    groups: list[str | None]
    clusters: list[str]


class Part(Record, frozen=True, kw_only=True):
    """The data that a report takes from a pair's file of samples, in its order."""

    key: str
    "The digest of all of its inputs."
    ids: list[str]
    groups: list[str | None]
    "The group of each sample; empty if none has a group."
    clusters: list[str]
    "The cluster of each sample, if the data set has clusters; else empty."
    marks: bytes
    "A little-endian uint16 for each sample: its verdict (`VERDICTS`) and marks."
    scores: bytes
    "A little-endian float64 for each sample: its primary score, or NaN if it has none."
    means: list[GroupMean]
    "The mean primary scores of groups."
    layers: dict[str, list[Stretch]]
    "The chunks of rows, of prompts and of answers."
    sizes: dict[str, int]
    "The size in bytes of each chunk's file."
    profile: Profile
    "A summary of all answers."


def packed(kind: str, values: Iterable[float]) -> bytes:
    """Numbers as little-endian bytes; `kind` is a type code of `array`."""
    found = array(kind, values)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def unpacked(kind: str, data: bytes) -> "array[Any]":
    """Numbers from little-endian bytes."""
    found = array(kind, data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


class Parts:
    """The parts of all pairs of a report; their chunks are in the report's folder once they have been asked for."""

    def __init__(self, chunks: Chunks, results: Path | None = None) -> None:
        self.chunks, self.results = chunks, results
        self._hashes = HashCache(layout.SAMPLE_HASHES.file(results)) if results else None
        self._known: dict[Path, Part] = {}
        self._names: dict[bytes, Names] = {}
        "By their JSON, so that those of many pairs are read and kept once."

    def of(self, pair: Pair) -> Part | None:
        """A pair's part; None without samples. Raises UserError if the file is damaged or cannot be read."""
        if pair.samples is None:
            return None
        if pair.samples not in self._known:
            self._known[pair.samples] = self._take(pair, pair.samples)
        return self._known[pair.samples]

    def save(self) -> None:
        """Keep the digests of files for the next report. If they cannot be kept, it reads the files again."""
        with suppress(OSError):
            if self._hashes:
                self._hashes.save_existing()

    def _take(self, pair: Pair, path: Path) -> Part:
        key, folder = self._key(pair, path), self._folder(path)
        if folder and (known := _kept(folder, key, self._names)):
            for name in known.sizes:
                self.chunks.take(name, folder)
            return known
        part = make_part(pair.scores, path, self.chunks, key)
        if folder:
            _keep(folder, part, self.chunks)
        return part

    def _key(self, pair: Pair, path: Path) -> str:
        found = self._hashes.sha256(path) if self._hashes else file_sha256(path)
        if pair.timings and pair.timings.samples_sha256 not in (None, found):
            raise UserError(Problem(str(path), "", "damaged: it does not match the hash in its timings", ANEW))
        main = pair.scores.main
        return digest([found, pair.scores.primary, main.percent, _cluster_column(pair.scores), _code()])

    def _folder(self, path: Path) -> Path | None:
        """The folder in which a part is kept."""
        if self.results is None:
            return None
        try:
            return layout.PARTS.folder(self.results, **layout.SAMPLES.fields(path))
        except ValueError:  # samples from elsewhere
            return None


@functools.cache
def _code() -> str:
    """The code that parts depend on besides the samples: this code, and the compressor, so that bytes are the same."""
    from shardmark.records import sample
    from shardmark.scoring import statistics

    from . import chunks, profiles

    modules = (__file__, chunks.__file__, profiles.__file__, str(sample.__file__), str(statistics.__file__))
    files = [file_sha256(Path(file)) for file in modules]
    return digest([files, zlib.ZLIB_RUNTIME_VERSION])


def _cluster_column(scores: Scores) -> str | None:
    return scores.provenance.config.get("dataset", {}).get("cluster_by") or None


def _kept(folder: Path, key: str, known: dict[bytes, Names]) -> Part | None:
    """The part in a folder, if it is the right one and complete; its names are in the first line of its file."""
    try:
        first, _, rest = (folder / PART).read_bytes().partition(b"\n")
        part = msgspec.json.decode(rest, type=Part)
        if part.key != key:
            return None
        names = known.setdefault(first, known.get(first) or msgspec.json.decode(first, type=Names))
        whole = all((folder / f"{name}.js").stat().st_size == size for name, size in part.sizes.items())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return replace(part, ids=names.ids, groups=names.groups, clusters=names.clusters) if whole else None


def _keep(folder: Path, part: Part, chunks: Chunks) -> None:
    """Keep a part for the next report. One that cannot be kept is made again then, which is not an error."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PART).unlink(missing_ok=True)
        for old in folder.glob("*.js"):
            old.unlink(missing_ok=True)
        for name in part.sizes:
            link(chunks.file(name), folder / f"{name}.js")
        temporary = folder / f".{PART}"
        names = Names(ids=part.ids, groups=part.groups, clusters=part.clusters)
        rest = replace(part, ids=[], groups=[], clusters=[])
        temporary.write_bytes(msgspec.json.encode(names) + b"\n" + msgspec.json.encode(rest))
        temporary.replace(folder / PART)
    except OSError:
        pass


class _Layer:
    """Collects the JSON of samples, and closes a chunk when it is large enough."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self.stretches: list[Stretch] = []
        self.texts: list[bytes] = []
        self.start = self.size = 0

    def add(self, text: bytes) -> None:
        self.texts.append(text)
        self.size += len(text)
        if self.size >= CHUNK_BYTES or len(self.texts) >= CHUNK_ROWS:
            self.close()

    def close(self) -> None:
        if self.texts:
            self.stretches.append(Stretch(self.start, self.chunks.add_json(b"[" + b",\n".join(self.texts) + b"]")))
            self.start += len(self.texts)
            self.texts, self.size = [], 0


def make_part(scores: Scores, path: Path, chunks: Chunks, key: str = "") -> Part:
    """Read a file of samples and write its chunks. Raises UserError with the number of an invalid line."""
    layers = {name: _Layer(chunks) for name in LAYERS}
    ids, groups, clusters, marks, values = [], [], [], array("H"), array("d")
    column, percent, profiler = _cluster_column(scores), scores.main.percent, Profiler()
    for sample in _lines(path):
        for layer, collected in layers.items():
            collected.add(sample.layer(layer))
        value = sample.scores.get(scores.primary)
        ids.append(sample.sample)
        groups.append(sample.group)
        marks.append(_marks(sample, value, percent))
        profiler.add(sample, bool(marks[-1] & CUT))
        values.append(math.nan if value is None else value)
        if column:
            clusters.append(str(msgspec.json.decode(sample.row)[column]))
    for collected in layers.values():
        collected.close()
    stretches = {name: collected.stretches for name, collected in layers.items()}
    return Part(
        key=key,
        ids=ids,
        groups=groups if any(group is not None for group in groups) else [],
        clusters=clusters,
        marks=packed("H", marks),
        scores=packed("d", values),
        means=group_means(groups, values, clusters),
        layers=stretches,
        profile=profiler.profile(),
        sizes={each.chunk: chunks.sizes[each.chunk] for found in stretches.values() for each in found},
    )


def group_means(names: Sequence[str | None], values: Sequence[float], clusters: Sequence[str] = ()) -> list[GroupMean]:
    """The mean score of each group of samples, by name; NaN stands for no score, None for no group.

    Samples of one cluster may depend on each other; without `clusters`, none do.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(names):
        if group is not None:
            groups[group].append(place)
    return [_group(name, groups[name], values, clusters) for name in sorted(groups)]


def _group(name: str, places: list[int], values: Sequence[float], clusters: Sequence[str]) -> GroupMean:
    n, known = len(places), [place for place in places if not math.isnan(values[place])]
    if not known:
        return GroupMean(name, n, None, None)
    own = [clusters[place] for place in known] if clusters else None
    estimate = estimate_mean([values[place] for place in known], own)
    return GroupMean(name, n, estimate.value, estimate.ci95)


def _lines(path: Path) -> Iterator[SampleParts]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield read_parts(line)
            except Unreadable as error:
                raise UserError(Problem(f"{path}:{number}", "", str(error), ANEW)) from error


def verdict(value: float | None, percent: bool) -> str:
    """Judge a sample by its primary score; only a fraction can be wholly right (1) or wrong (0)."""
    if value is None:
        return "unscored"
    return {1.0: "right", 0.0: "wrong"}.get(value, "partial") if percent else "partial"


def _marks(sample: SampleParts, value: float | None, percent: bool) -> int:
    return (
        VERDICTS.index(verdict(value, percent))
        | NO_ANSWER * (not sample.has_answer)
        | CUT * (sample.end in LIMITS or sample.thought_cut)
        | TRUNCATED * (sample.truncated > 0)
        | TIED * sample.tied
        | REFUSED * (sample.end in REFUSALS)
        | ALONE * (sample.alone > 0)
        | WITHIN * sample.within_thought
    )
