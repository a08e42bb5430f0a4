"""The differences between two reports: scores that moved, samples that flipped, and inputs that changed."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from shardmark.files import digest
from shardmark.power import LEVEL
from shardmark.records.base import Record
from shardmark.records.parts import Cause, differing
from shardmark.records.sample import Sample, read_sample
from shardmark.records.score import Metric, Provenance, Scores
from shardmark.scoring.comparisons import Comparison, compare, holm

from .pair import Pair
from .results import Results
from .sample_scores import SampleScores, Scored, read_lines, read_scored, sample_scores
from .text import as_text, clean

LONGEST = 400
"The most characters shown of an output; the explorer of samples has all of it."


class Flip(Record, frozen=True, kw_only=True):
    """A sample whose score has changed."""

    sample: str
    before: float | None
    after: float | None
    output_before: str = ""
    output_after: str = ""


class Change(Record, frozen=True, kw_only=True):
    """A model on a data set, before and after."""

    model: str
    dataset: str
    status: Literal["moved", "flipped", "remade", "added", "removed"]
    """Whether its value has moved; or only samples have flipped; or neither, though an input has changed; or it is in
    only one of the reports."""
    metric: str
    before: Metric | None
    after: Metric | None
    difference: float | None = None
    "The mean change of the samples that both have."
    p: float | None = None
    "The p-value of that change; None if samples are unknown."
    p_holm: float | None = None
    "The p-value corrected for all changes of the report."
    flips: list[Flip] = msgspec.field(default_factory=list)
    only_before: int = 0
    "Samples that are gone."
    only_after: int = 0
    "Samples that are new."
    causes: list[Cause] = msgspec.field(default_factory=list)

    @property
    def verdict(self) -> Literal["better", "worse", ""]:
        """Whether the scores are significantly better or worse, after Holm's correction."""
        if self.p_holm is None or self.p_holm >= LEVEL or not self.difference or self.after is None:
            return ""
        return "better" if (self.difference > 0) == self.after.higher_is_better else "worse"


class Previous(NamedTuple):
    """The results of an earlier report, and its name."""

    name: str
    results: Results


def changes(before: Results, after: Results) -> list[Change]:
    """All differences, in the order of the later report, then results that are gone."""
    found = [_change(before.pairs.get(names), pair) for names, pair in after.pairs.items()]
    found += [_change(pair, None) for names, pair in before.pairs.items() if names not in after.pairs]
    known = [change for change in found if change is not None]
    corrected = iter(holm([change.p for change in known if change.p is not None]))
    return [replace(each, p_holm=None if each.p is None else float(next(corrected))) for each in known]


def _change(before: Pair | None, after: Pair | None) -> Change | None:
    pair = after or before
    assert pair is not None
    if before and after and before.samples == after.samples is not None:
        return None  # the same file: nothing in it can differ
    facts: dict[str, Any] = {
        "model": pair.scores.model.name,
        "dataset": pair.scores.dataset.name,
        "metric": pair.scores.primary,
        "before": before and before.scores.main,
        "after": after and after.scores.main,
    }
    if before is None or after is None:
        return Change(status="added" if before is None else "removed", **facts)
    metric, earlier = after.scores.primary, before.scores.metrics.get(after.scores.primary)
    facts["before"] = earlier
    samples = [list(read_scored(each)) for each in (before, after)]
    scores = [{sample.sample: sample.scores.get(metric) for sample in each} for each in samples]
    shared = [name for name in scores[1] if name in scores[0]]
    flips = [
        Flip(sample=name, before=scores[0][name], after=scores[1][name])
        for name in shared
        if scores[0][name] != scores[1][name]
    ]
    only = [len(each) - len(shared) for each in scores]
    moved = earlier is None or earlier.value != after.scores.main.value or earlier.n != after.scores.main.n
    causes = causes_of(before.scores, after.scores)
    if not (moved or flips or any(only) or causes):
        return None
    if not causes:
        version = [each.scores.provenance.shardmark for each in (before, after)]
        part = "shardmark" if version[0] != version[1] else "answers"
        causes = [Cause(part=part, before=version[0], after=version[1])]
    status: Any = "moved" if moved else "flipped" if flips or any(only) else "remade"
    found = _compared(sample_scores(before, samples[0]), sample_scores(after, samples[1]))
    found = found if before.scores.primary == metric else None
    return Change(
        status=status,
        flips=_with_outputs(flips, *map(_outputs, (before, after), samples, [flips] * 2)) if flips else [],
        only_before=only[0],
        only_after=only[1],
        causes=causes,
        difference=found.difference if found else None,
        p=found.p if found else None,
        **facts,
    )


def _compared(other: SampleScores | None, one: SampleScores | None) -> Comparison | None:
    """The later answers to the samples that both have, compared with the earlier ones."""
    if one is None or other is None:
        return None
    places = {name: place for place, name in enumerate(other.names)}
    shared = [(place, places[name]) for place, name in enumerate(one.names) if name in places]
    if not shared:
        return None
    here, there = [list(each) for each in zip(*shared, strict=True)]
    clusters = [one.clusters[place] for place in here] if one.clusters else None
    return compare(list(one.at(here)), list(other.at(there)), clusters)


def causes_of(before: Scores, after: Scores) -> list[Cause]:
    """The parts of two scores' inputs that differ."""
    sources = (before.provenance, after.provenance)
    found = list(differing(*(each.components for each in sources)))
    if not found and before.dataset.digest != after.dataset.digest:
        digests = (before.dataset.digest, after.dataset.digest)
        found = [Cause(part="another data set", before=digests[0], after=digests[1])]
    if before.model.digest == after.model.digest:
        return found
    parts = [_model_parts(each) for each in sources]
    shared = {key for key in parts[0] if key in parts[1]} if not all(s.model_components for s in sources) else None
    kept = [{k: v for k, v in each.items() if shared is None or k in shared} for each in parts]
    of_model = [Cause(part=f"model {cause.part}", before=cause.before, after=cause.after) for cause in differing(*kept)]
    return found + (of_model or [Cause(part="another model", before=before.model.digest, after=after.model.digest)])


def _model_parts(source: Provenance) -> Mapping[str, str]:
    """The digests of a model's parts; those that an earlier version did not note are made from its settings."""
    if source.model_components:
        return source.model_components
    config = source.config
    found = {"settings": digest(config.get("model"))}
    for part, key in (("revision", "weights"), ("adapter", "adapter")):
        found |= {part: digest(config[key]["identity"])} if "identity" in config.get(key, {}) else {}
    return found


def _with_outputs(flips: Sequence[Flip], before: Mapping[str, str], after: Mapping[str, str]) -> list[Flip]:
    return [
        replace(flip, sample=clean(flip.sample), output_before=before[flip.sample], output_after=after[flip.sample])
        for flip in flips
    ]


def _outputs(pair: Pair, samples: Sequence[Scored], flips: Sequence[Flip]) -> dict[str, str]:
    """The outputs of samples that flipped, by name; only their lines are decoded."""
    wanted, following = {flip.sample for flip in flips}, iter(samples)
    assert pair.samples is not None

    def decode(line: bytes) -> Sample | None:
        return read_sample(line) if next(following).sample in wanted else None

    return {sample.sample: _told(sample) for sample in read_lines(pair.samples, decode) if sample}


def _told(sample: Sample) -> str:
    text = "" if sample.output is None else as_text(sample.output)
    return str(clean(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"))
