"""The policy of gate.py: the conditions on a report for a release, or a change of a model, to go ahead."""

from typing import Annotated

from pydantic import Field, model_validator

from shardmark.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class Baseline(Settings):
    """The baseline that models are compared with."""

    model: str | None = None
    "A model by name; null: each model is compared with the one of the same name in the other report."
    report: str | None = None
    "Folder of another report, such as an earlier run's, relative to where gate.py is called; null: the same report."

    @model_validator(mode="after")
    def _names_something(self) -> "Baseline":
        if self.model is None and self.report is None:
            raise ValueError("give model, or report, or both")
        return self


class Rule(Settings):
    """The results that a rule applies to."""

    models: list[str] = Field(default=["*"], min_length=1)
    "Names of models of the report, or globs."
    datasets: list[str] = Field(default=["*"], min_length=1)
    "Names of its data sets, or globs; groups only by their names."


class LossRule(Rule):
    """No model is significantly worse than a baseline on the same samples, after Holm's correction over the rule."""

    baseline: Baseline
    "The baseline that models are compared with."
    level: float = Field(0.05, gt=0, lt=1)
    "The level of the tests: how often the rule may fail by chance alone."
    shows: float | None = Field(None, gt=0, le=1)
    "Undecided unless samples could show a loss as small as this fraction (80% power). null: no such demand."


class ScoreRule(Rule):
    """Scores within bounds; fractions, not percent."""

    metric: str | None = None
    "A metric's label; null: the primary one."
    at_least: float | None = None
    "A lower bound, for metrics where higher is better."
    at_most: float | None = None
    "An upper bound, for metrics where lower is better."
    surely: bool = False
    "Whether the whole 95% interval must be within the bound, not just the value."

    @model_validator(mode="after")
    def _one_bound(self) -> "ScoreRule":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give at_least or at_most")
        return self


class AnswerRule(Rule):
    """Limits on missing and truncated answers, as fractions of the samples."""

    unanswered: Share | None = None
    "The largest share of samples in whose output the filters find no answer."
    cut: Share | None = None
    "The largest share of outputs that end at the limit of new tokens, by the clock, or within a thought."

    @model_validator(mode="after")
    def _some_bound(self) -> "AnswerRule":
        if self.unanswered is None and self.cut is None:
            raise ValueError("give unanswered, or cut, or both")
        return self


class GateConfig(Settings):
    """A policy: everything checked must be in the report. Missing results never count as passed."""

    loss: list[LossRule] = Field(default=[])
    "Comparisons with baselines."
    scores: list[ScoreRule] = Field(default=[])
    "Bounds of scores."
    answers: list[AnswerRule] = Field(default=[])
    "Limits on missing answers."
    complete: bool = True
    "Whether all planned results of the run must be there; if any is missing, the gate is undecided."

    @model_validator(mode="after")
    def _checks_something(self) -> "GateConfig":
        if not (self.loss or self.scores or self.answers):
            raise ValueError("checks nothing: give loss, scores or answers")
        return self
