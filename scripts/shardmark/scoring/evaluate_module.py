"""All metrics as the configurations of one local `evaluate` module; `load_metric` loads it by its path."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from shardmark.metrics import METRICS

TEXT = datasets.Value("string")
NUMBER = datasets.Value("float64")
INTEGER = datasets.Value("int64")
FEATURES: dict[str, tuple[Any, Any]] = {
    "text": (TEXT, datasets.Sequence(TEXT)),
    "with_row": (TEXT, TEXT),
    "label": (TEXT, TEXT),
    "program": (TEXT, TEXT),
    "choice": (INTEGER, datasets.Sequence(INTEGER)),
    "logprobs": (datasets.Sequence(NUMBER), datasets.Sequence(INTEGER)),
    "likelihood": (NUMBER, TEXT),
}
"The types of a prediction and of a reference, by the metric's `reads`."


class ShardmarkMetric(evaluate.Metric):
    """A metric of metrics/. `compute` returns its value under its name, the terms, and a score for each sample."""

    def _info(self) -> evaluate.MetricInfo:
        kind = METRICS[self.config_name]
        prediction, reference = FEATURES[kind.reads]
        return evaluate.MetricInfo(
            description=str(kind.__doc__),
            citation="",
            inputs_description=f"predictions, references: see {kind.reads} in scoring/metric_inputs.py; and settings",
            features=datasets.Features({"predictions": prediction, "references": reference}),
        )

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any], **settings: Any) -> dict[str, Any]:
        metric = METRICS[self.config_name].model_validate({"name": self.config_name, **settings})
        rows = metric.terms(predictions, references)
        alone = metric.of_samples or metric.is_mean()
        samples = [metric.value(np.array(row)) if alone else None for row in rows]
        return {metric.name: metric.value(np.sum(rows, axis=0)), "samples": samples, "terms": rows}
