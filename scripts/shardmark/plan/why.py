"""Reasons for the work of a plan: differences from earlier scores of the same names, and the consequences."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from shardmark import layout
from shardmark.errors import UserError
from shardmark.files import read_sealed
from shardmark.plan.pairs import Pair
from shardmark.records.base import Record
from shardmark.records.parts import Cause, differing, model_components
from shardmark.store.tasks import read_header, read_task

SHOWN = 8
"Hexadecimal digits of a digest in a line."
NAMED = 3
"The most models, data sets or rows that a line names; the others are counted."


class Reason(Record, frozen=True, kw_only=True):
    """The reason why a model on a data set has no scores yet."""

    model: str
    dataset: str
    causes: list[Cause]
    "Parts that differ from the newest scores of the same names; none without such scores or differences."
    is_new: bool
    "Whether there are no earlier scores."
    rows: str
    "The rows that differ, if the content of the rows does."
    requests: int
    "The number of requests to infer; if 0, existing answers are only scored."
    of: int
    "The number of all requests."

    @property
    def why(self) -> str:
        """The reason in words."""
        if self.causes:
            parts = {cause.part for cause in self.causes}
            idle = {"protocol"} if parts & {"filters", "metrics"} else set()  # it lists the filters and metrics, too
            return ", ".join(self._told(cause) for cause in self.causes if cause.part not in idle)
        if not self.requests:
            return "answered, but not scored yet"
        if self.requests < self.of:
            return "partly answered already"
        return "not run before" if self.is_new else "its scores are gone"

    def _told(self, cause: Cause) -> str:
        rows = f": {self.rows}" if self.rows and cause.part == "revision" else ""
        return f"{cause.what} ({cause.before[:SHOWN]} -> {cause.after[:SHOWN]}{rows})"

    @property
    def follows(self) -> str:
        """The work to be done, in words."""
        if not self.requests:
            return "scoring only"
        some = f"{self.requests:,} of " if self.requests < self.of else ""
        return f"{some}{self.of:,} request{'s' * (self.of > 1)}"


def reasons(pairs: list[Pair], results: Path) -> list[Reason]:
    """The reason for each pair that is to be run or scored."""
    earlier = _Earlier(results)
    return [earlier.reason(pair) for pair in pairs if not pair.scored]


def reason_lines(found: list[Reason], most: int | None = None) -> Iterator[str]:
    """One line for all models and data sets that share a reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for reason in found:
        groups.setdefault((reason.dataset, reason.why, reason.follows), []).append(reason.model)
    rows: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (dataset, why, follows), models in groups.items():
        rows.setdefault((why, follows, tuple(models)), []).append(dataset)
    for (why, follows, named), datasets in [*rows.items()][:most]:
        each = " each" if len(named) * len(datasets) > 1 else ""
        yield f"{_some(named)} on {_some(datasets)}: {why}; {follows}{each}"
    if most is not None and len(rows) > most:
        yield f"and {len(rows) - most} more reasons: `snakemake plan` lists them all"


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


class _Earlier:
    """The scores of a results folder, by the names of their models and data sets."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.rows = cache(self._rows)
        self.scores_of = cache(self._scores_of)

    def _scores_of(self, model: str) -> dict[str, list[Path]]:
        """The score files of a model, in all of its versions, by data set."""
        found: dict[str, list[Path]] = {}
        for file in layout.SCORES.found(self.results, model=f"{model}@*"):
            found.setdefault(layout.SCORES.fields(file)["dataset"], []).append(file)
        return found

    def _newest(self, pair: Pair) -> Path | None:
        files = self.scores_of(pair.model.name).get(pair.dataset.name, [])
        return max(files, key=lambda file: file.stat().st_mtime_ns, default=None)

    def reason(self, pair: Pair) -> Reason:
        """The reason why a pair has no scores yet."""
        newest = self._newest(pair)
        scores = read_sealed(newest) if newest else {}
        causes = self._causes(pair, scores) if scores else []
        rows = ""
        if any(cause.part == "revision" for cause in causes):
            rows = self.rows(pair.dataset.name, scores["dataset"]["digest"], pair.dataset.digest)
        return Reason(
            model=pair.model.name,
            dataset=pair.dataset.name,
            causes=causes,
            is_new=not scores,
            rows=rows,
            requests=pair.requests,
            of=pair.dataset.requests,
        )

    def _causes(self, pair: Pair, scores: dict[str, object]) -> list[Cause]:
        digests = {key: str(dict(scores[key])["digest"]) for key in ("model", "dataset")}  # type: ignore[call-overload]
        made = dict(scores["provenance"])  # type: ignore[call-overload]
        found = []
        if digests["dataset"] != pair.dataset.digest:
            place = {"dataset": pair.dataset.name, "task": pair.dataset.digest}
            header = read_header(layout.TASKS.file(self.results, **place))
            found = list(differing(made.get("components", {}), header.dataset.components if header else {}))
            found = found or [Cause(part="another data set", before=digests["dataset"], after=pair.dataset.digest)]
        if digests["model"] != pair.model.digest:
            of_model = list(differing(made.get("model_components", {}), model_components(pair.model)))
            found += [Cause(part=f"model {each.part}", before=each.before, after=each.after) for each in of_model] or [
                Cause(part="another model", before=digests["model"], after=pair.model.digest)
            ]
        return found

    def _rows(self, dataset: str, before: str, after: str) -> str:
        """The rows of a data set that differ, in words; "" if the earlier ones are no longer known."""
        try:
            files = [layout.TASKS.file(self.results, dataset=dataset, task=task) for task in (before, after)]
            old, new = ({line.sample: line for line in read_task(file)[1]} for file in files)
        except (UserError, OSError):
            return ""
        differ = [(n, name) for n, name in enumerate(new) if name in old and old[name] != new[name]]
        changed = [f"row {n}" if name == str(n) else f"row {n} ({name})" for n, name in differ]
        added, gone = [name for name in new if name not in old], [name for name in old if name not in new]
        parts = [(changed, "changed"), (added, "new"), (gone, "gone")]
        return ", ".join(f"{_some(names)} {what}" for names, what in parts if names)
