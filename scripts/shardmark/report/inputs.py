"""The score files that the score step wrote, read and checked."""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from shardmark.errors import Problem, UserError
from shardmark.files import SEAL, file_sha256, is_sealed
from shardmark.tasks.extent import described

from .text import clean

ANEW = "delete the file and let the score step make it anew"
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _safe_name(name: str) -> str:
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no safe file name: use A-Z a-z 0-9 _ - and, not first, .")
    return name


Number = Annotated[float | None, BeforeValidator(_finite)]
Name = Annotated[str, BeforeValidator(_safe_name)]


class _Lenient(BaseModel):
    """Ignores keys it does not know, so that a score file may say more than the report shows."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


class Metric(_Lenient):
    """An estimate: value, standard error and 95 % interval over n samples; fractions have percent set."""

    value: Number
    stderr: Number = None
    ci95: tuple[Number, Number] | None = None
    n: int = 0
    higher_is_better: bool = True
    percent: bool = False


class ModelInfo(_Lenient):
    """A model as it was run."""

    name: Name
    digest: str
    description: str = ""
    source: str = ""
    revision: str | None = None
    dtype: str | None = None
    num_gpus: int = 0


class DatasetInfo(_Lenient):
    """A data set as it was asked; chance is the expected primary metric of blind guessing.

    `remarks` say what a reader must know of its samples, such as prompts that contain their own answer.
    `limit` says what part of it was asked, as in "first 40 of 14,042 rows"; it is empty for all of it.
    """

    name: Name
    digest: str
    description: str = ""
    kind: Literal["generate", "choice", "loglikelihood", "rolling", "mixed", "group"] = "generate"
    remarks: list[str] = Field(default_factory=list)
    source: str = ""
    revision: str | None = None
    chance: Number = None
    limit: Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else described(value))] = ""


class Counts(_Lenient):
    """How many samples and requests there were, prompts cut to fit, and answers that were not found.

    `near_misses` are answers that count as wrong only because of their white space or case.
    `tied` counts samples whose best choice is exactly as good as another, `alone` those with a choice that was
    tokenized without its prompt, because a token of the model's spans both.
    """

    samples: int
    requests: int = 0
    truncated: int = 0
    unanswered: int = 0
    near_misses: int = 0
    tied: int = 0
    alone: int = 0

    def remarks(self) -> list[str]:
        """What must be said wherever the score stands."""
        tied = f"{self.tied:,} of {self.samples:,} samples with tied choices" if self.tied else ""
        alone = f"{self.alone:,} of {self.samples:,} samples with choices tokenized alone" if self.alone else ""
        return [text for text in (tied, alone) if text]


class Inference(_Lenient):
    """Wall-clock seconds of one pair's inference and of loading the model; times are ISO 8601, UTC.

    `predicted_seconds` is what inference was expected to take before it began.
    """

    seconds: Number = None
    load_seconds: Number = None
    predicted_seconds: Number = None
    started: str | None = None
    finished: str | None = None
    batch_size: int | str | None = None
    requests: int | None = None
    shards: list[str] = Field(default_factory=list)
    samples_sha256: str | None = None

    @property
    def requests_per_second(self) -> float | None:
        """Requests answered a second, loading left out; None where either number is unknown."""
        return self.requests / self.seconds if self.requests is not None and self.seconds else None


class Provenance(_Lenient):
    """What produced the scores."""

    shardmark: str | None = None
    git_commit: str | None = None
    python: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, Any] = Field(default_factory=dict)
    inference: Inference = Inference()
    config: dict[str, Any] = Field(default_factory=dict)


class Scores(_Lenient):
    """One score file: a model on a data set."""

    protocol: Literal[1]
    model: ModelInfo
    dataset: DatasetInfo
    primary: str
    metrics: dict[str, Metric]
    counts: Counts
    provenance: Provenance = Provenance()

    @model_validator(mode="after")
    def _has_primary(self) -> "Scores":
        if self.primary not in self.metrics:
            raise ValueError(f"the primary metric {self.primary!r} is not among {list(self.metrics)}")
        return self

    @property
    def main(self) -> Metric:
        """The primary metric's estimate."""
        return self.metrics[self.primary]


class Gap(_Lenient):
    """A model on a data set without scores, in the report of a run that ended with failures; log is a path."""

    model: ModelInfo
    dataset: DatasetInfo
    status: Literal["failed", "not run"]
    reason: str
    log: str = ""

    @property
    def text(self) -> str:
        """Status, reason and log in a line."""
        return f"{self.status}: {self.reason}" + (f" ({self.log})" if self.log else "")


class Sample(_Lenient):
    """One scored sample.

    Of a choice, logprobs (natural log, summed) and tokens are given for each option, and answer and target
    may be indexes. `truncated` counts the tokens cut from the prompt, `end` says what ended an output.
    """

    sample: str
    request: str = ""
    prompt: str = ""
    choices: list[str] | None = None
    logprobs: list[Number] | None = None
    tokens: list[int] | None = None
    output: str | None = None
    answer: Any = None
    target: Any = None
    scores: dict[str, Number] = Field(default_factory=dict)
    truncated: int = 0
    tied: bool = False
    alone: int = 0
    end: str | None = None
    row: Any = None
    group: str | None = None


Parsed = TypeVar("Parsed", bound=BaseModel)


def parse(kind: type[Parsed], text: str, where: str) -> Parsed:
    """Parse JSON text as `kind`, its strings cleaned.

    Raises UserError naming `where` if it does not fit, or is not what its checksum, if it has one, was made of.
    """
    try:
        value = json.loads(text)
        if isinstance(value, dict) and SEAL in value and not is_sealed(value):
            raise UserError(Problem(where, SEAL, "damaged: its checksum is not that of its content", ANEW))
        return kind.model_validate(clean(value))
    except json.JSONDecodeError as error:
        raise UserError(Problem(where, "", f"not valid JSON: {error}", ANEW)) from error
    except ValidationError as error:
        raise UserError([_problem(where, details) for details in error.errors()]) from error


def _problem(where: str, details: ErrorDetails) -> Problem:
    return Problem(where, ".".join(map(str, details["loc"])), details["msg"], ANEW)


def read_scores(path: Path) -> Scores:
    """Read one score file; raise UserError if it is not one."""
    return parse(Scores, path.read_text("utf-8", "replace"), str(path))


def read_timings(path: Path) -> Inference:
    """Read how long a pair's inference took; raise UserError if it is not such a file."""
    return parse(Inference, path.read_text("utf-8", "replace"), str(path))


def read_samples(path: Path, expected: str | None = None) -> list[Sample]:
    """Read one file of scored samples, a JSON object a line; raise UserError with the line's number.

    `expected` is the SHA-256 that the file must have, where that is known.
    """
    if expected not in (None, file_sha256(path)):
        raise UserError(Problem(str(path), "", "damaged: it is not the file that its timings hash", ANEW))
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        return [parse(Sample, line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
