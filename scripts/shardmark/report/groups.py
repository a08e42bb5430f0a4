"""Several data sets as one: the mean of their primary metrics, with its error."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

from msgspec.structs import replace

from shardmark.records.score import Counts, DatasetInfo, Reasoning, Scores, SoFar

from .estimates import weighted_mean


@dataclass(frozen=True)
class Group:
    """Data sets that are reported as one, weighted equally, by samples, or by given weights."""

    name: str
    members: Sequence[str]
    mean: str = "macro"
    weights: Mapping[str, float] = field(default_factory=dict)
    description: str = ""


def group_scores(group: Group, scores: Sequence[Scores], same: Sequence[str] | None = None) -> Scores:
    """The scores of one model on a group, from those on its members; members with equal names in `same` share rows.

    There is no value if the members' metrics have no common unit or direction.
    """
    first, names = scores[0], sorted({one.primary for one in scores})
    metric = weighted_mean([one.main for one in scores], weights_of(group, scores), same)
    name = f"{group.mean} {names[0] if len(names) == 1 else 'mean'}"
    made_of = repr([group.mean, sorted(group.weights.items()), [one.dataset.digest for one in scores]])
    info = DatasetInfo(
        name=group.name,
        digest=hashlib.sha256(made_of.encode()).hexdigest()[:16],
        description=group.description,
        kind="group",
        revision=None,
        source=f"{group.mean} mean of {', '.join(one.dataset.name for one in scores)}",
        chance=_chance(group, scores),
        limit=_limit(scores),
    )
    engine = ("tied", "alone", "within_thoughts", "late", "repeated", "differing")
    summed = ("samples", *engine, "refused", "empty", "cut_there", "same_samples")
    totals = {name: sum(getattr(one.counts, name) for one in scores) for name in summed}
    totals["models"] = max(one.counts.models for one in scores)
    counts = Counts(
        requests=0, truncated=0, unanswered=0, **totals, reasoning=_reasoning(scores), so_far=_so_far(scores)
    )
    return replace(first, dataset=info, primary=name, metrics={name: metric}, counts=counts)


def _reasoning(scores: Sequence[Scores]) -> Reasoning | None:
    """The amount of thinking for all members together."""
    parts = [one.counts.reasoning for one in scores if one.counts.reasoning]
    if not parts:
        return None
    tokens = [(part.thought_tokens, part.answer_tokens) for part in parts]
    known = [(thought, answer) for thought, answer in tokens if thought is not None and answer is not None]
    return Reasoning(
        answers=sum(part.answers for part in parts),
        reasoned=sum(part.reasoned for part in parts),
        cut=sum(part.cut for part in parts),
        seen=any(part.seen for part in parts),
        thought_tokens=sum(thought for thought, _ in known) if len(known) == len(parts) else None,
        answer_tokens=sum(answer for _, answer in known) if len(known) == len(parts) else None,
    )


def _so_far(scores: Sequence[Scores]) -> SoFar | None:
    """The answered part of all members' samples, if some are unanswered.

    Shards are counted over the members with unanswered samples.
    """
    parts = [one.counts.so_far for one in scores if one.counts.so_far]
    if not parts:
        return None
    return SoFar(
        shards=sum(part.shards for part in parts),
        of_shards=sum(part.of_shards for part in parts),
        samples=sum(one.counts.samples for one in scores),
        of=sum(one.counts.so_far.of if one.counts.so_far else one.counts.samples for one in scores),
    )


def _limit(scores: Sequence[Scores]) -> str:
    """The part of a group that was asked: a sole member's, or how many members were asked in part."""
    limits = [one.dataset.part for one in scores if one.dataset.part]
    if len(scores) == 1 or not limits:
        return "".join(limits)
    return f"{len(limits)} of {len(scores)} data sets in part"


def weights_of(group: Group, scores: Sequence[Scores]) -> list[float]:
    """The weight of each member; one that is not completely answered yet gets the weight it will have then."""
    if group.mean == "micro":
        parts = [one.counts.so_far for one in scores]
        return [one.main.n * (part.of / part.samples if part else 1.0) for one, part in zip(scores, parts, strict=True)]
    return [group.weights.get(one.dataset.name, 1.0) for one in scores]


def _chance(group: Group, scores: Sequence[Scores]) -> float | None:
    chances = [one.dataset.chance for one in scores if one.dataset.chance is not None]
    if len(chances) < len(scores):
        return None
    weights = weights_of(group, scores)
    return fsum(w * c for w, c in zip(weights, chances, strict=True)) / fsum(weights) if fsum(weights) else None
