"""Several data sets as one: the mean of their primary metrics, with its error."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

from msgspec.structs import replace

from shardmark.records.score import Counts, DatasetInfo, Reasoning, Scores

from .estimates import weighted_mean


@dataclass(frozen=True)
class Group:
    """Data sets that are reported as one, and what each counts: the same, by its samples, or by its weight."""

    name: str
    members: Sequence[str]
    mean: str = "macro"
    weights: Mapping[str, float] = field(default_factory=dict)
    description: str = ""


def group_scores(group: Group, scores: Sequence[Scores]) -> Scores:
    """The scores of one model on a group, from those on its members.

    There is no value if the members' metrics have no common unit or direction.
    """
    first, names = scores[0], sorted({one.primary for one in scores})
    metric = weighted_mean([one.main for one in scores], _weights(group, scores))
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
    totals = {
        name: sum(getattr(one.counts, name) for one in scores)
        for name in ("samples", "tied", "alone", "within_thoughts", "late")
    }
    counts = Counts(requests=0, truncated=0, unanswered=0, **totals, reasoning=_reasoning(scores))
    return replace(first, dataset=info, primary=name, metrics={name: metric}, counts=counts)


def _reasoning(scores: Sequence[Scores]) -> Reasoning | None:
    """What was thought for all members together."""
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


def _limit(scores: Sequence[Scores]) -> str:
    """What part of a group was asked: what is said of its members, or of how many something is."""
    limits = [one.dataset.part for one in scores if one.dataset.part]
    if len(scores) == 1 or not limits:
        return "".join(limits)
    return f"{len(limits)} of {len(scores)} data sets in part"


def _weights(group: Group, scores: Sequence[Scores]) -> list[float]:
    if group.mean == "micro":
        return [float(one.main.n) for one in scores]
    return [group.weights.get(one.dataset.name, 1.0) for one in scores]


def _chance(group: Group, scores: Sequence[Scores]) -> float | None:
    chances = [one.dataset.chance for one in scores if one.dataset.chance is not None]
    if len(chances) < len(scores):
        return None
    weights = _weights(group, scores)
    return fsum(w * c for w, c in zip(weights, chances, strict=True)) / fsum(weights) if fsum(weights) else None
