"""The results of a run: its models, its data sets and the pairs of them that were scored."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from shardmark.errors import Problem, UserError
from shardmark.records.gap import Gap, Name
from shardmark.records.score import DatasetInfo, ModelInfo, Scores

from .groups import Group, group_scores
from .inputs import read_scores, read_timings
from .pair import Pair
from .private import public, public_scores
from .same_rows import SameRows

Info = TypeVar("Info", ModelInfo, DatasetInfo)
Descriptions = Mapping[str, Mapping[str, str]]
'A line about each of the "models" and "datasets", by name.'
Prices = Mapping[str, tuple[float, float]]
"The price of a million tokens of prompts and of answers, by model."


@dataclass(frozen=True)
class Results:
    """All pairs of a run by (model name, data set name), in the order in which they were given."""

    pairs: dict[tuple[str, str], Pair]
    groups: tuple[Group, ...] = ()
    "Data sets that are reported as one; iterating gives the pairs they are made of."
    gaps: tuple[Gap, ...] = ()
    "The missing scores of a run that ended with failures."
    mean_weights: Mapping[str, float] = field(default_factory=dict)
    "The weights of data sets and groups in the mean that ranks models; others weigh 1."

    @cached_property
    def models(self) -> list[ModelInfo]:
        """The models, in order of first appearance; last those without any score."""
        scored = {pair.scores.model.name: pair.scores.model for pair in self}
        return list((scored | _named(ModelInfo.unscored, [gap.model for gap in self.gaps]) | scored).values())

    @cached_property
    def datasets(self) -> list[DatasetInfo]:
        """The data sets, in order of first appearance; last those without any score."""
        scored = {pair.scores.dataset.name: pair.scores.dataset for pair in self}
        return list((scored | _named(DatasetInfo.unscored, [gap.dataset for gap in self.gaps]) | scored).values())

    @cached_property
    def same_rows(self) -> SameRows:
        """The data sets that ask about the same rows."""
        return SameRows(self.pairs.values())

    @cached_property
    def grouped(self) -> dict[tuple[str, str], Pair]:
        """The pairs of a model and a group that the model was run on as a whole."""
        found = {}
        for group in self.groups:
            for model in self.models:
                members = [pair for name in group.members if (pair := self.pairs.get((model.name, name)))]
                if len(members) == len(group.members):
                    same = [self.same_rows.set_of(name)[0] for name in group.members]
                    scores = group_scores(group, [pair.scores for pair in members], same)
                    found[model.name, group.name] = Pair(scores, None)
        return found

    @cached_property
    def columns(self) -> list[DatasetInfo]:
        """The groups, then the data sets."""
        groups = {pair.scores.dataset.name: pair.scores.dataset for pair in self.grouped.values()}
        for group in self.groups:
            if any(gap.dataset.name in group.members for gap in self.gaps):
                info = DatasetInfo.unscored(group.name, "", group.description, "group")
                groups.setdefault(group.name, info)
        return [*groups.values(), *self.datasets]

    @cached_property
    def in_mean(self) -> list[str]:
        """The groups and data sets of the mean: fractions, better when higher, of all models that lack no result.

        A group counts in place of its members.
        """
        whole = [model.name for model in self.models if not self.has_gaps(model.name)]
        found = []
        for name in (dataset.name for dataset in self.columns if not self.groups_of(dataset.name)):
            metrics = [pair.scores.main if (pair := self.get(model, name)) else None for model in whole]
            if whole and all(m and m.value is not None and m.percent and m.higher_is_better for m in metrics):
                found.append(name)
        return found

    @cached_property
    def _gaps(self) -> dict[tuple[str, str], Gap]:
        """The gaps by (model name, data set name); a group has that of its first member with one."""
        found = {(gap.model.name, gap.dataset.name): gap for gap in self.gaps}
        for group in self.groups:
            for model in self.models:
                own = [found[model.name, name] for name in group.members if (model.name, name) in found]
                if own:
                    reason = f"no result of {own[0].dataset.name}: {own[0].reason}"
                    found[model.name, group.name] = replace(own[0], reason=reason)
        return found

    def gap(self, model: str, dataset: str) -> Gap | None:
        """The reason why the run lacks a model's scores on a data set or group; None if not, or if none were due."""
        return self._gaps.get((model, dataset))

    def has_gaps(self, model: str) -> bool:
        """Whether a model lacks a planned result."""
        return any(gap.model.name == model for gap in self.gaps)

    @cached_property
    def _ways(self) -> dict[str, set[bool]]:
        found: dict[str, set[bool]] = {}
        for pair in self:
            found.setdefault(pair.scores.dataset.name, set()).add(pair.scores.dataset.is_chat)
        return found

    def ways(self, dataset: str) -> set[bool]:
        """Whether models were asked a data set in chats (true), as texts (false), or some in each way."""
        return self._ways.get(dataset, set())

    def groups_of(self, dataset: str) -> list[str]:
        """The groups that a data set belongs to."""
        return [group.name for group in self.groups if dataset in group.members]

    def get(self, model: str, dataset: str) -> Pair | None:
        """The pair, or None if the model was not run on the data set, or not on all of the group."""
        return self.pairs.get((model, dataset)) or self.grouped.get((model, dataset))

    def missing(self) -> list[tuple[str, str]]:
        """The (model, data set) names that have no result, and were not to have one."""
        grid = ((model.name, dataset.name) for model in self.models for dataset in self.datasets)
        return [names for names in grid if names not in self.pairs and not self.gap(*names)]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs.values())


def _named(kind: Callable[[str, str], Info], names: Iterable[Name]) -> dict[str, Info]:
    """Minimal facts about models or data sets that a report knows by name only."""
    return {each.name: kind(each.name, each.digest) for each in names}


def read_results(
    scores: Iterable[Path],
    samples: Iterable[Path],
    descriptions: Descriptions | None = None,
    timings: Iterable[Path] = (),
    groups: Iterable[Group] = (),
    gaps: Iterable[Gap] = (),
    mean_weights: Mapping[str, float] | None = None,
    prices: Prices | None = None,
) -> Results:
    """Read score files and pair each with its samples and timings by folder and file name.

    `descriptions` replace those in the score files, which are as old as the scores; `prices` are for those without one.

    Raises UserError if there is no score file, if samples have no scores, if a pair comes twice, or if the files
    disagree about a model or a data set.
    """
    unpaired = {_key(path): path for path in samples}
    timed = {_key(path): path for path in timings}
    pairs: dict[tuple[str, str], Pair] = {}
    for path in scores:
        read, took = public_scores(read_scores(path)), timed.get(_key(path))
        times = read_timings(took) if took else read.provenance.inference
        price = (prices or {}).get(read.model.name)
        if price and times and times.usage and times.usage.money is None:
            times = replace(times, usage=times.usage.priced(price))
        pair = Pair(_described(read, descriptions or {}), unpaired.pop(_key(path), None), times)
        names = (pair.scores.model.name, pair.scores.dataset.name)
        if names in pairs:
            what = f"a second score file of {names[0]} on {names[1]}"
            raise UserError(Problem(str(path), "", what, "give one for each pair"))
        pairs[names] = pair
    if unpaired:
        fix = "give the score file of the same folder and file name"
        raise UserError(Problem(str(path), "", "samples without scores", fix) for path in unpaired.values())
    if not pairs:
        raise UserError(Problem("--scores", "", "no score file was given", "give at least one"))
    _check_agreement(pairs.values())
    return Results(pairs, tuple(groups), tuple(gaps), mean_weights or {})


def _described(scores: Scores, descriptions: Descriptions) -> Scores:
    model, dataset = (descriptions.get(kind, {}) for kind in ("models", "datasets"))
    if scores.model.name in model:
        scores = replace(scores, model=replace(scores.model, description=public(model[scores.model.name])))
    if scores.dataset.name in dataset:
        scores = replace(scores, dataset=replace(scores.dataset, description=public(dataset[scores.dataset.name])))
    return scores


def _key(path: Path) -> tuple[str, str]:
    return path.parent.name, path.stem


def _check_agreement(pairs: Iterable[Pair]) -> None:
    """Raise UserError for two versions of a model or data set under one name, which would share a row or column."""
    seen: dict[tuple[str, str, str], str] = {}
    for scores in (pair.scores for pair in pairs):
        asked = f"{scores.dataset.name} in chats" if scores.dataset.is_chat else scores.dataset.name
        facts = [
            ("model", scores.model.name, "digest", scores.model.digest),
            ("data set", asked, "digest", scores.dataset.digest),
            ("data set", scores.dataset.name, "primary metric", scores.primary),
        ]
        for kind, name, fact, value in facts:
            if seen.setdefault((kind, name, fact), value) != value:
                what = f"has two values of its {fact}: {seen[kind, name, fact]} and {value}"
                raise UserError(Problem(f"{kind} {name}", "", what, "report the two separately"))
