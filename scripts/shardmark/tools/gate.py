"""Check a report against a policy: pass, fail, or undecided, with a reason for each result that was checked."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace

from shardmark.config.gate import AnswerRule, GateConfig, LossRule, Rule, ScoreRule
from shardmark.config.misplaced_keys import checked
from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem, UserError, nearest
from shardmark.export.finished import Finished, read_finished, samples_of
from shardmark.files import pretty_json, write_whole
from shardmark.records.base import Record, to_json
from shardmark.records.score import Metric
from shardmark.report.formats import number
from shardmark.report.pair import Pair
from shardmark.report.paired import Comparisons
from shardmark.report.parts import LIMITS
from shardmark.report.render import environment, write_page
from shardmark.report.results import Results
from shardmark.report.text import clean
from shardmark.scoring.comparisons import Comparison, holm

Status = Literal["pass", "fail", "undecided"]
EXIT: dict[Status, int] = {"pass": 0, "fail": 1, "undecided": 2}
BASELINE = "{} (baseline)"


class Check(Record, frozen=True, kw_only=True):
    """A rule's verdict on a result."""

    rule: str
    "The rule's place in the policy, such as loss[0]."
    what: str
    "The checked property, in a few words."
    model: str
    dataset: str
    status: Status
    why: str


class Verdict(Record, frozen=True, kw_only=True):
    """A policy's verdict on a report."""

    status: Status
    report: str
    policy: str
    "The name of the policy's file."
    checks: list[Check]

    def of(self, status: Status) -> list[Check]:
        """The checks with this status."""
        return [check for check in self.checks if check.status == status]

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        counts = ", ".join(f"{len(self.of(status))} {status}" for status in EXIT if self.of(status))
        return f"{self.status}: {counts} ({self.policy} on {self.report})"


def read_policy(path: Path) -> GateConfig:
    """The policy in a YAML file. Raises UserError."""
    problems: list[Problem] = []
    values = read_yaml(path, str(path), problems)
    policy = checked(GateConfig, values, str(path), problems) if not problems else None
    if policy is None:
        raise UserError(problems)
    return policy


def judge(report: Path, policy_file: Path) -> Verdict:
    """Check a report. Raises UserError for a policy that does not fit it, and for an unreadable report."""
    policy, finished = read_policy(policy_file), read_finished(report)
    checks = list(Gate(finished, policy, str(policy_file)).checks())
    statuses = {check.status for check in checks}
    worst: Status = "fail" if "fail" in statuses else "undecided" if "undecided" in statuses else "pass"
    return Verdict(status=worst, report=finished.folder.name, policy=policy_file.name, checks=checks)


def write_verdict(verdict: Verdict, folder: Path) -> Path:
    """Write gate.json and gate.html, and return the page's path."""
    write_whole(folder / "gate.json", pretty_json(to_json(verdict)))
    order = [check for status in ("fail", "undecided", "pass") for check in verdict.of(status)]
    context = {
        "run": clean(verdict.report),
        "verdict": clean(to_json(verdict)),
        "checks": clean(list(map(to_json, order))),
        "summary": clean(verdict.summary),
        "index": "index.html" if (folder / "index.html").is_file() else "",
    }
    write_page(environment(), "gate.html.j2", folder / "gate.html", context)
    return folder / "gate.html"


class _Compared(NamedTuple):
    """A model against its baseline on a data set, or the reason why they cannot be compared."""

    model: str
    dataset: str
    found: Comparison | None
    metric: Metric | None
    why_not: str = ""


class Gate:
    """A policy and the report that it is applied to."""

    def __init__(self, finished: Finished, policy: GateConfig, file: str) -> None:
        self.finished, self.policy, self.file = finished, policy, file
        self.results = finished.scored

    def checks(self) -> Iterator[Check]:
        if self.policy.complete and self.results.gaps:
            for gap in self.results.gaps:
                place = {"model": gap.model.name, "dataset": gap.dataset.name}
                yield Check(rule="complete", what="is there", status="undecided", why=gap.text, **place)
        for number_, loss in enumerate(self.policy.loss):
            yield from self._loss(loss, f"loss[{number_}]")
        for number_, score in enumerate(self.policy.scores):
            yield from self._scores(score, f"scores[{number_}]")
        for number_, answers in enumerate(self.policy.answers):
            yield from self._answers(answers, f"answers[{number_}]")

    def _loss(self, rule: LossRule, name: str) -> Iterator[Check]:
        other = self.results if rule.baseline.report is None else read_finished(Path(rule.baseline.report)).scored
        compared = self._compared(rule, name, other)
        if not compared:
            what = "compares nothing: it names only its baseline"
            raise UserError(Problem(self.file, name, what, "name others in `models`"))
        corrected = iter(holm([each.found.p for each in compared if each.found]))
        for each in compared:
            model, what = each.model, "no significant loss"
            if each.found is None or each.metric is None:
                yield Check(
                    rule=name, what=what, model=model, dataset=each.dataset, status="undecided", why=each.why_not
                )
                continue
            p = float(next(corrected))
            worse = (each.found.difference < 0) == each.metric.higher_is_better and each.found.difference != 0
            status: Status = "fail" if worse and p < rule.level else "pass"
            status = "undecided" if worse and each.found.null_stderr is None else status
            smallest = each.found.smallest
            if status == "pass" and rule.shows is not None and (smallest is None or smallest > rule.shows):
                status = "undecided"
            yield Check(
                rule=name,
                what=what,
                model=model,
                dataset=each.dataset,
                status=status,
                why=_told(each.found, each.metric, p),
            )

    def _compared(self, rule: LossRule, name: str, other: Results) -> list[_Compared]:
        baseline = rule.baseline
        models = self._models(rule, name)
        if baseline.model is not None and baseline.model not in {model.name for model in other.models}:
            what = f"{baseline.model!r} is not a model of the baseline report"
            raise UserError(
                Problem(
                    self.file, f"{name}.baseline.model", what, nearest(baseline.model, [m.name for m in other.models])
                )
            )
        if other is self.results:
            models = [model for model in models if model != baseline.model]
        merged = Comparisons(_merged(self.results, other))
        found = []
        for model in models:
            before = baseline.model or model
            for dataset in self._datasets(rule, name, groups=True):
                mine, theirs = self.results.get(model, dataset), other.get(before, dataset)
                why = self._why_not(mine, model, dataset) or _why_no_baseline(mine, theirs, before, dataset)
                if why or mine is None:
                    found.append(_Compared(model, dataset, None, None, why))
                else:
                    between = merged.between(model, BASELINE.format(before), dataset)
                    found.append(_Compared(model, dataset, between, mine.scores.main))
        return found

    def _scores(self, rule: ScoreRule, name: str) -> Iterator[Check]:
        for model in self._models(rule, name):
            for dataset in self._datasets(rule, name, groups=True):
                pair = self.results.get(model, dataset)
                why = self._why_not(pair, model, dataset)
                label = rule.metric or (pair.scores.primary if pair else "")
                place = {"rule": name, "what": _bound(rule, label), "model": model, "dataset": dataset}
                if pair and rule.metric and rule.metric not in pair.scores.metrics:
                    what = f"{dataset} has no metric {rule.metric!r}"
                    raise UserError(
                        Problem(self.file, f"{name}.metric", what, nearest(rule.metric, pair.scores.metrics))
                    )
                if why or pair is None:
                    yield Check(**place, status="undecided", why=why)
                    continue
                metric = pair.scores.metrics[label]
                self._check_bound(rule, name, dataset, metric)
                status, why = _within(rule, metric)
                yield Check(**place, status=status, why=why)

    def _check_bound(self, rule: ScoreRule, name: str, dataset: str, metric: Metric) -> None:
        """Raise UserError for a bound that the metric always or never keeps."""
        bound = (rule.at_least or 0.0) + (rule.at_most or 0.0)  # one of them is None
        if metric.percent and not 0 <= bound <= 1:
            key = "at_least" if rule.at_most is None else "at_most"
            what = f"{bound:g} is out of reach of the metric of {dataset}, which is a fraction"
            raise UserError(Problem(self.file, f"{name}.{key}", what, f"give {bound / 100:g} for {bound:g} %"))
        if metric.higher_is_better == (rule.at_least is not None):
            return
        key, fit, better = (
            ("at_least", "at_most", "less") if rule.at_least is not None else ("at_most", "at_least", "more")
        )
        what = f"for the metric of {dataset}, {better} is better"
        raise UserError(Problem(self.file, f"{name}.{key}", what, f"give {fit}, or leave {dataset} out"))

    def _answers(self, rule: AnswerRule, name: str) -> Iterator[Check]:
        bounds = {"no answer found": rule.unanswered, "output cut": rule.cut}
        for model in self._models(rule, name):
            for dataset in self._datasets(rule, name, groups=False):
                pair = self.results.pairs.get((model, dataset))
                for what, bound in bounds.items():
                    if bound is None:
                        continue
                    why = self._why_not(pair, model, dataset, valued=False)
                    status: Status = "undecided"
                    if pair and not why and what == "output cut" and pair.samples is None:
                        why = "the report was made without its samples, which tell how outputs ended"
                    elif pair and not why:
                        total = pair.scores.counts.samples
                        count = pair.scores.counts.unanswered if what == "no answer found" else _cut(pair)
                        status = "fail" if count > bound * total else "pass"
                        why = f"{count:,} of {total:,} samples ({_percent(count / total)})"
                    told = f"{what} in at most {_percent(bound)}"
                    yield Check(rule=name, what=told, model=model, dataset=dataset, status=status, why=why)

    def _why_not(self, pair: Pair | None, model: str, dataset: str, valued: bool = True) -> str:
        """The reason why a result cannot be judged; empty if it can."""
        if pair is None:
            gap = self.results.gap(model, dataset)
            return f"no score: {gap.text}" if gap else "no score: it was not run"
        if pair.scores.counts.so_far:
            return f"no final score: {pair.scores.counts.so_far}"
        return "its score is not finite" if valued and pair.scores.main.value is None else ""

    def _models(self, rule: Rule, name: str) -> list[str]:
        return self._matching(rule.models, [model.name for model in self.results.models], f"{name}.models")

    def _datasets(self, rule: Rule, name: str, groups: bool) -> list[str]:
        known = [dataset.name for dataset in self.results.datasets]
        of_groups = [group.name for group in self.results.groups if groups and group.name in rule.datasets]
        return self._matching(rule.datasets, [*known, *of_groups], f"{name}.datasets")

    def _matching(self, patterns: Sequence[str], known: Sequence[str], key: str) -> list[str]:
        """The known names that match patterns.

        Raises UserError for a pattern that matches nothing: it would pass whatever the report has.
        """
        lost = [pattern for pattern in patterns if not any(fnmatchcase(each, pattern) for each in known)]
        if lost:
            raise UserError(
                Problem(self.file, key, f"{pattern!r} matches nothing in the report", nearest(pattern, known))
                for pattern in lost
            )
        return [each for each in known if any(fnmatchcase(each, pattern) for pattern in patterns)]


def _merged(results: Results, other: Results) -> Results:
    """The results of both reports; baselines are renamed to be distinct."""
    pairs = dict(results.pairs)
    for (model, dataset), pair in other.pairs.items():
        name = BASELINE.format(model)
        scores = replace(pair.scores, model=replace(pair.scores.model, name=name))
        pairs[name, dataset] = Pair(scores, pair.samples, pair.timings)
    return Results(pairs, results.groups)


def _why_no_baseline(mine: Pair | None, theirs: Pair | None, model: str, dataset: str) -> str:
    """The reason why a result cannot be compared with the baseline's; empty if it can."""
    if theirs is None:
        return f"no baseline: {model} has no score on {dataset}"
    if mine and mine.scores.dataset.digest != theirs.scores.dataset.digest:
        if mine.scores.dataset.is_chat != theirs.scores.dataset.is_chat:
            ways = ["in chats" if pair.scores.dataset.is_chat else "as text" for pair in (mine, theirs)]
            return f"no baseline: it was asked {ways[0]}, {model} {ways[1]}"
        return "no baseline: its samples, or how they are judged, have changed since (compare.py --against shows what)"
    if mine and mine.scores.primary != theirs.scores.primary:
        return f"no baseline: its metric was {theirs.scores.primary}"
    return "no baseline: its score is not finite" if theirs.scores.main.value is None else ""


def _told(found: Comparison, metric: Metric, p: float) -> str:
    """A comparison in words."""
    sign = "+" if found.difference > 0 else ""
    ends = "" if found.ci95 is None else f" ({' to '.join(number(end, metric.percent) for end in found.ci95)})"
    unit = " points" if metric.percent else ""
    wins, losses = (found.wins, found.losses) if metric.higher_is_better else (found.losses, found.wins)
    flips = "" if found.n is None else f"; {wins} wins, {losses} losses of {found.n:,}"
    shows = "" if found.smallest is None else f"; a loss of {number(found.smallest, metric.percent)}{unit} can be shown"
    return f"{sign}{number(found.difference, metric.percent)}{unit}{ends}, p = {p:.3g} after Holm{flips}{shows}"


def _bound(rule: ScoreRule, label: str) -> str:
    word, bound = ("at least", rule.at_least) if rule.at_least is not None else ("at most", rule.at_most)
    return f"{label} {'surely ' * rule.surely}{word} {bound:g}"


def _within(rule: ScoreRule, metric: Metric) -> tuple[Status, str]:
    if metric.value is None:
        return "undecided", "its value is not finite"
    low, high = metric.ci95 or (None, None)
    ends = "" if low is None or high is None else f" (95% interval {low:.4g} to {high:.4g})"
    value: float | None = metric.value
    if rule.surely:
        value = low if rule.at_least is not None else high
    if value is None:
        return "undecided", f"{metric.value:.4g}, and its interval is not known"
    kept = value >= rule.at_least if rule.at_least is not None else value <= (rule.at_most or 0.0)
    return "pass" if kept else "fail", f"{metric.value:.4g}{ends}, n = {metric.n:,}"


def _cut(pair: Pair) -> int:
    """How many outputs were cut."""
    return sum(sample.end in LIMITS or sample.thought_cut for sample in samples_of(pair))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
