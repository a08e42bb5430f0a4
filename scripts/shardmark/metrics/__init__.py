"""Metrics, which score the answers to a data set, one file each.

They come before the configuration, whose types they are part of, and import anything heavy only when they compute.
"""

from typing import Annotated, get_args

from pydantic import Field

from shardmark.metrics.accuracy import Accuracy
from shardmark.metrics.base import Metric
from shardmark.metrics.bits_per_byte import BitsPerByte
from shardmark.metrics.bleu import Bleu
from shardmark.metrics.brier import Brier
from shardmark.metrics.byte_perplexity import BytePerplexity
from shardmark.metrics.chrf import Chrf
from shardmark.metrics.exact_match import ExactMatch
from shardmark.metrics.f1 import F1
from shardmark.metrics.ifbench import Ifbench
from shardmark.metrics.ifeval import Ifeval
from shardmark.metrics.math_equivalence import MathEquivalence
from shardmark.metrics.mc1 import Mc1
from shardmark.metrics.mc2 import Mc2
from shardmark.metrics.mcc import Mcc
from shardmark.metrics.own import OwnMetric
from shardmark.metrics.pass_at_k import PassAtK
from shardmark.metrics.perplexity import Perplexity
from shardmark.metrics.rouge import Rouge
from shardmark.metrics.squad import Squad
from shardmark.metrics.string_match import StringMatch
from shardmark.metrics.word_perplexity import WordPerplexity

AnyMetric = Annotated[
    Accuracy
    | BitsPerByte
    | Bleu
    | Brier
    | BytePerplexity
    | Chrf
    | ExactMatch
    | F1
    | Ifbench
    | Ifeval
    | MathEquivalence
    | Mc1
    | Mc2
    | Mcc
    | OwnMetric
    | PassAtK
    | Perplexity
    | Rouge
    | Squad
    | StringMatch
    | WordPerplexity,
    Field(discriminator="name"),
]
METRICS: dict[str, type[Metric]] = {
    name: kind for kind in get_args(get_args(AnyMetric)[0]) for name in get_args(kind.model_fields["name"].annotation)
}
"The classes of metrics by name."
