"""How answers are judged: the metrics of a data set."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from shardmark.settings import Pattern, Settings

Scoring = Literal["sum", "token", "char", "byte", "perplexity"]


class MetricSettings(Settings):
    """What every metric may be told."""

    kinds: ClassVar[frozenset[str]] = frozenset({"generate", "choice"})
    "The kinds of data sets that have what the metric reads."
    label: str | None = Field(None, pattern=r"^[\w@.+-]+$")
    "Its name in scores and report; without it, the metric's own."
    chain: str | None = None
    "The chain of filters it judges, if there are several; without it, each of them."


class Resampled(MetricSettings):
    """A metric whose error bar comes from drawing the samples again and again."""

    resamples: int = Field(1000, ge=100, le=100_000)
    "How often all samples are drawn with replacement; the draws are the same each time."


class Accuracy(MetricSettings):
    """Share of samples whose chosen label is the target; of kind loglikelihood, those that are the likeliest text."""

    kinds: ClassVar[frozenset[str]] = frozenset({"choice", "loglikelihood"})
    name: Literal["accuracy"]
    scoring: Scoring | None = None
    "How choices are ranked here; without it, as the data set says."


class ExactMatch(MetricSettings):
    """Share of samples whose answer equals the target, or one of the targets."""

    name: Literal["exact_match"]
    ignore_case: bool = False
    "Capital and small letters are equal."
    ignore_punctuation: bool = False
    "ASCII punctuation is taken out before comparing."
    ignore_numbers: bool = False
    "The digits 0 to 9 are taken out before comparing."
    ignore_patterns: list[Pattern] = Field(default=[])
    "Regular expressions; what they match is taken out before anything else."
    tolerance: float | None = Field(None, ge=0)
    "Compare as numbers; equal if they differ by no more than this."


class F1(Resampled):
    """Harmonic mean of precision and recall."""

    name: Literal["f1"]
    average: Literal["token", "binary", "macro"] = "token"
    "token: words of each answer, as SQuAD; binary: of one label; macro: the mean over all labels."
    positive: str = "1"
    "average binary: the label that counts; for kind choice the index from 0."


class Squad(MetricSettings):
    """SQuAD's scores: case, punctuation and the articles a, an, the don't count, and the best target does."""

    name: Literal["squad"]
    part: Literal["f1", "exact_match"] = "f1"
    "f1: words in common. exact_match: all are."


class Rouge(MetricSettings):
    """ROUGE's F-measure: what an answer has in common with the nearest target."""

    name: Literal["rouge"]
    type: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    "Words, pairs of words, the longest common sequence, or that over lines."
    stem: bool = False
    "Words are reduced to their stems (Porter)."


class Bleu(Resampled):
    """BLEU of the whole data set, by sacrebleu."""

    name: Literal["bleu"]
    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    "How texts become words."
    ignore_case: bool = False
    "Capital and small letters are equal."


class Chrf(Resampled):
    """chrF of the whole data set, by sacrebleu."""

    name: Literal["chrf"]
    word_order: Literal[0, 2] = 0
    "0: chrF, 2: chrF++."


class PassAtK(MetricSettings):
    """Chance that one of k generated programs passes the tests, which run in a sandbox (bubblewrap)."""

    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    name: Literal["pass_at_k"]
    k: PositiveInt = 1
    "How many of the answers to a request; `generation.samples` must be at least that."
    timeout: PositiveFloat = Field(10.0, le=600)
    "Seconds of computing time that a program may take."
    memory_mb: PositiveInt = Field(1024, ge=64)
    "Megabytes that a program may take."


class MathEquivalence(MetricSettings):
    """Share of samples whose answer means the same number or formula as a target, by math-verify."""

    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    name: Literal["math_equivalence"]


class Ifeval(Resampled):
    """Share of prompts, or of instructions, that are followed (Zhou et al. 2023)."""

    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    name: Literal["ifeval"]
    level: Literal["prompt", "instruction"] = "prompt"
    "prompt: all instructions of a prompt. instruction: each one."
    loose: bool = False
    "Also followed if it is so without the first or last line, or without asterisks."


class ChoiceMetric(MetricSettings):
    """Metrics of all choices' probabilities.

    brier: squared distance of their probabilities to the truth, 0 is best. mc1: the likeliest choice is right. mc2:
    the probability of all right choices together (TruthfulQA).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"choice"})
    name: Literal["brier", "mc1", "mc2"]


class Mcc(Resampled):
    """Matthews' correlation coefficient of labels: 1 is perfect, 0 is chance."""

    name: Literal["mcc"]


class Perplexity(Resampled):
    """How little a text surprises a model; lower is better.

    perplexity: of a whole target. word_perplexity, byte_perplexity: per word or UTF-8 byte. bits_per_byte: the same
    in bits.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"choice", "loglikelihood", "rolling"})
    name: Literal["perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"]


Metric = Annotated[
    Accuracy
    | ExactMatch
    | F1
    | Squad
    | Rouge
    | Bleu
    | Chrf
    | PassAtK
    | MathEquivalence
    | Ifeval
    | ChoiceMetric
    | Mcc
    | Perplexity,
    Field(discriminator="name"),
]
