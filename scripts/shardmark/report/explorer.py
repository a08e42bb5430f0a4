"""The page of all samples, and the chunks that it loads: a catalog, an index for each data set, and texts.

The index of a data set contains the facts that samples are listed and filtered by, so that texts are loaded only when
they are read. docs/report.md describes the chunks.
"""

import base64
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shardmark.records.score import Scores

from .formats import count, figure, margin, number
from .pair import Pair
from .parts import VERDICTS, GroupMean, Part, Stretch, packed, unpacked
from .site import Page, Site

CATALOG = "catalog"
"The name of the chunk that the page loads first."
SCRIPTS = ("loader.js", "text.js", "samples-store.js", "samples-list.js", "samples-card.js", "samples.js")
ABSENT = 0xFFFFFFFF
"Stands for a row that a model was not asked."


class ModelIndex(msgspec.Struct, frozen=True, kw_only=True):
    """A model's results on the samples of a data set. Arrays are base64 of little-endian numbers."""

    model: str
    rows: str | None
    "The position of each of the data set's samples among those that the model was asked, as uint32; None if equal."
    marks: str
    "A uint16 for each sample that the model was asked: verdict in the lowest two bits, and marks."
    scores: str | None
    "The primary score of each, as float32; None if all are 0, 1 or none, which the verdict tells."
    layers: dict[str, list[Stretch]]
    "Chunks of rows, prompts and answers, each with the index of its first sample."
    summary: list[str]
    "Remarks about the pair as a whole."
    groups: list[GroupMean]
    settings: list[str]
    "Chunks with the settings of the model and of the data set."
    asked: str
    "The form of prompts: text, messages (sent to an endpoint as they are), or chat (a text by the model's template)."


class DatasetIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The samples of a data set by name, and the models' results on them."""

    ids: list[str]
    groups: list[str]
    group: str | None
    "The index of each sample's group plus 1, or 0, as uint32; None if there are no groups."
    models: list[ModelIndex]


class CatalogDataset(msgspec.Struct, frozen=True, kw_only=True):
    """A data set in the explorer's menus."""

    name: str
    description: str
    metric: str
    percent: bool
    samples: int
    index: str
    "The name of the chunk with its DatasetIndex."
    part: str


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """The data that the page loads first."""

    run: str
    models: list[str]
    datasets: list[CatalogDataset]
    verdicts: Sequence[str] = VERDICTS
    format: int = 1


def write_explorer(site: Site, page: Page) -> None:
    """Write the page of samples with its chunks; models are in the order of the leaderboard."""
    models = [row.model.name for row in site.board.rows]
    pairs = defaultdict(list)
    for pair in site.results:
        if pair.samples is not None:
            pairs[pair.scores.dataset.name].append(pair)
    datasets = [_dataset(site, pairs[info.name]) for info in site.results.datasets if info.name in pairs]
    site.chunks.add_named(CATALOG, Catalog(run=site.run, models=models, datasets=datasets))
    samples = sum(dataset.samples for dataset in datasets)
    site.write(page, "samples.html.j2", SCRIPTS, ["controls.css", "samples.css"], samples=samples)


def _dataset(site: Site, pairs: list[Pair]) -> CatalogDataset:
    parts = [(pair, part) for pair in pairs if (part := site.parts.of(pair))]
    names, own = _places([part.ids for _, part in parts])
    groups: dict[str, int] = {}
    group_of = [0] * len(names)
    done: tuple[Sequence[int], list[str | None]] = ((), [])
    for (_, part), places in zip(parts, own, strict=True):
        if places is done[0] and part.groups == done[1]:
            continue
        done = (places, part.groups)
        for place, group in zip(places, part.groups, strict=False):
            if group is not None:
                group_of[place] = groups.setdefault(group, len(groups) + 1)
    models = [_model(site, pair, part, places, len(names)) for (pair, part), places in zip(parts, own, strict=True)]
    rank = {row.model.name: row.rank for row in site.board.rows}
    index = DatasetIndex(
        ids=names,
        groups=list(groups),
        group=_base64("I", group_of) if groups else None,
        models=sorted(models, key=lambda index: rank[index.model]),
    )
    scores = pairs[0].scores
    return CatalogDataset(
        name=scores.dataset.name,
        description=scores.dataset.description,
        metric=scores.primary,
        percent=scores.main.percent,
        samples=len(names),
        index=site.chunks.add(index),
        part=scores.dataset.part,
    )


def _places(lists: Sequence[list[str]]) -> tuple[list[str], list[Sequence[int]]]:
    """All ids of several lists, each once, and the positions of each list's ids among them.

    Equal lists share one object for their positions: most models are asked the same.
    """
    first = lists[0]
    same = range(len(first))
    if all(ids == first for ids in lists):
        return first, [same] * len(lists)
    places: dict[tuple[str, int], int] = {}
    own = [[places.setdefault(name, len(places)) for name in numbered(ids)] for ids in lists]
    return [name for name, _ in places], [found if found != own[0] else own[0] for found in own]


def numbered(ids: Sequence[str]) -> list[tuple[str, int]]:
    """Each id with the number of its earlier occurrences, so that no two are the same."""
    if len(set(ids)) == len(ids):
        return [(name, 0) for name in ids]
    seen: dict[str, int] = defaultdict(int)
    found = []
    for name in ids:
        found.append((name, seen[name]))
        seen[name] += 1
    return found


def _model(site: Site, pair: Pair, part: Part, own: Sequence[int], size: int) -> ModelIndex:
    scores = pair.scores
    values = unpacked("d", part.scores)
    plain = scores.main.percent and all(value in (0.0, 1.0) or math.isnan(value) for value in set(values))
    config = scores.provenance.config
    return ModelIndex(
        model=scores.model.name,
        rows=None if list(own) == list(range(size)) else _base64("I", _inverse(own, size)),
        marks=base64.b64encode(part.marks).decode(),
        scores=None if plain else _base64("f", values),
        layers=part.layers,
        summary=list(_summary(scores)),
        groups=part.means,
        settings=[site.chunks.add(config.get(kind, {})) for kind in ("model", "dataset")],
        asked=_asked(scores),
    )


def _asked(scores: Scores) -> str:
    if not scores.dataset.is_chat:
        return "text"
    return "messages" if scores.provenance.config.get("model", {}).get("api") == "chat" else "chat"


def _inverse(own: Sequence[int], size: int) -> list[int]:
    found = [ABSENT] * size
    for row, place in enumerate(own):
        found[place] = row
    return found


def _base64(kind: str, values: Iterable[Any]) -> str:
    return base64.b64encode(packed(kind, values)).decode()


def _summary(scores: Scores) -> Iterable[str]:
    """The metrics of a pair, and remarks about its samples."""
    for name, metric in scores.metrics.items():
        error = f" ± {margin(metric)}" if margin(metric) != "–" else ""
        yield f"{name} {figure(metric)}{error}{' %' if metric.percent else ''}"
    counts = scores.counts
    yield f"{count(counts.samples)} samples"
    if scores.dataset.part:
        yield scores.dataset.part
    if scores.dataset.chance is not None:
        yield f"chance {number(scores.dataset.chance, scores.main.percent)}"
    if scores.dataset.is_chat:
        yield "asked in chats"
    if counts.unanswered:
        yield f"{count(counts.unanswered)} without an answer"
    if counts.near_misses:
        yield f"{count(counts.near_misses)} wrong only by white space or case"
    if counts.truncated:
        yield f"{count(counts.truncated)} truncated prompts"
    yield from counts.remarks()
    if (thought := counts.reasoning) and thought.mean_thought is not None:
        yield f"mean tokens of reasoning {number(thought.mean_thought)}, of the answer {number(thought.mean_answer)}"
    yield from (use.text for use in scores.provenance.engines)
    yield from (f"answers reused from {taken.text}" for taken in scores.provenance.taken)
    yield f"model digest {scores.model.digest}, data set digest {scores.dataset.digest}"
