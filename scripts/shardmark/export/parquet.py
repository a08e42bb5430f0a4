"""Scores and samples as Parquet, for pandas, Polars or DuckDB: scores.parquet and samples.parquet.

Values of a sample that may have any type (answer, target, row) are JSON text; control characters stay as they are.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardmark.files import whole_file
from shardmark.records.sample import Sample
from shardmark.records.score import Metric
from shardmark.report.pair import Pair

from .finished import Finished, encodable, plain_json, samples_of
from .names import metric_names, model_id

ROWS = 10_000
"The number of samples in memory at once, and in a row group."
TEXT, NUMBER, WHOLE = pa.string(), pa.float64(), pa.int64()
NAMES = [("model", TEXT), ("model_digest", TEXT), ("dataset", TEXT), ("dataset_digest", TEXT)]
SCORES = pa.schema(
    [
        *NAMES, ("model_id", TEXT), ("metric", TEXT), ("lm_eval_metric", TEXT), ("is_primary", pa.bool_()),
        ("value", NUMBER), ("stderr", NUMBER), ("ci95_low", NUMBER), ("ci95_high", NUMBER), ("interval", TEXT),
        ("n", WHOLE), ("clusters", WHOLE), ("higher_is_better", pa.bool_()), ("is_fraction", pa.bool_()),
        ("status", TEXT), ("limit", TEXT), ("asked", TEXT), ("kind", TEXT),
        ("samples", WHOLE), ("truncated", WHOLE), ("unanswered", WHOLE), ("tied", WHOLE), ("remarks", TEXT),
        ("seconds", NUMBER), ("finished", TEXT),
    ]
)  # fmt: skip
SAMPLES = pa.schema(
    [
        *NAMES, ("sample", TEXT), ("request", TEXT), ("group", TEXT), ("prompt", TEXT), ("choices", pa.list_(TEXT)),
        ("logprobs", pa.list_(NUMBER)), ("tokens", pa.list_(WHOLE)), ("output", TEXT), ("outputs", pa.list_(TEXT)),
        ("reasoning", TEXT), ("end", TEXT), ("answer", TEXT), ("target", TEXT), ("score", NUMBER),
        ("scores", pa.map_(TEXT, NUMBER)), ("truncated", WHOLE), ("tied", pa.bool_()), ("thought_cut", pa.bool_()),
        ("thought_tokens", WHOLE), ("answer_tokens", WHOLE), ("row", TEXT),
    ]
)  # fmt: skip


def export_parquet(finished: Finished, out: Path) -> list[str]:
    """Write both files and return what they leave out. Raises UserError."""
    with whole_file(out / "scores.parquet") as file:
        pq.write_table(scores_table(finished), file)
    with whole_file(out / "samples.parquet") as file, pq.ParquetWriter(file, SAMPLES, compression="zstd") as writer:
        for pair in finished.scored:
            for part in sample_tables(pair):
                writer.write_table(part)
    return [
        f"samples of {pair.scores.model.name} on {pair.scores.dataset.name}: they were not given to the report"
        for pair in finished.scored
        if pair.samples is None
    ]


def scores_table(finished: Finished) -> pa.Table:
    """A row for each metric of each model on each data set or group, and one for each missing score."""
    rows = [row for pair in [*finished.scored.grouped.values(), *finished.scored] for row in _scores(pair)]
    rows += [
        {
            "model": gap.model.name,
            "model_digest": gap.model.digest,
            "dataset": gap.dataset.name,
            "dataset_digest": gap.dataset.digest,
            "status": gap.text,
        }
        for gap in finished.scored.gaps
    ]
    return pa.Table.from_pylist(encodable(rows), SCORES)


def sample_tables(pair: Pair) -> Iterator[pa.Table]:
    """A row for each sample of a model on a data set, some thousand rows per table. Raises UserError."""
    rows_of_samples = (_sample(pair, sample) for sample in samples_of(pair))
    while part := list(islice(rows_of_samples, ROWS)):
        yield pa.Table.from_pylist(part, SAMPLES)


def _names(pair: Pair) -> dict[str, Any]:
    model, dataset = pair.scores.model, pair.scores.dataset
    return {
        "model": model.name,
        "model_digest": model.digest,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
    }


def _scores(pair: Pair) -> Iterator[dict[str, Any]]:
    scores = pair.scores
    known = {} if scores.dataset.kind == "group" else metric_names(scores)
    facts: dict[str, Any] = {
        "model_id": model_id(scores),
        "status": "scored",
        "limit": scores.dataset.part,
        "asked": "chat" if scores.dataset.is_chat else "text",
        "kind": scores.dataset.kind,
        "samples": scores.counts.samples,
        "truncated": scores.counts.truncated,
        "unanswered": scores.counts.unanswered,
        "tied": scores.counts.tied,
        "remarks": "; ".join(scores.counts.remarks()),
        "seconds": pair.timings.seconds if pair.timings else None,
        "finished": pair.timings.finished if pair.timings else None,
    }
    for label, metric in scores.metrics.items():
        name = known.get(label)
        of_metric = {
            "metric": label,
            "is_primary": label == scores.primary,
            "lm_eval_metric": name.key if name else None,
        }
        yield _names(pair) | facts | of_metric | _estimate(metric)


def _estimate(metric: Metric) -> dict[str, Any]:
    low, high = metric.ci95 or (None, None)
    return {
        "value": metric.value,
        "stderr": metric.stderr,
        "ci95_low": low,
        "ci95_high": high,
        "interval": metric.interval,
        "n": metric.n,
        "clusters": metric.clusters,
        "higher_is_better": metric.higher_is_better,
        "is_fraction": metric.percent,
    }


def _sample(pair: Pair, sample: Sample) -> dict[str, Any]:
    texts = {name: encodable(getattr(sample, name)) for name in ("sample", "request", "group", "reasoning", "end")}
    values = {name: plain_json(getattr(sample, name)) for name in ("answer", "target", "row")}
    same = (
        "logprobs", "tokens", "truncated", "tied", "thought_cut", "thought_tokens", "answer_tokens",
    )  # fmt: skip
    return {
        **_names(pair),
        **texts,
        "prompt": encodable(sample.as_sent),
        **values,
        **{name: getattr(sample, name) for name in same},
        "choices": [encodable(str(choice)) for choice in sample.choices] if sample.choices else None,
        "output": None if sample.output is None else encodable(str(sample.output)),
        "outputs": encodable(sample.outputs),
        "score": sample.scores.get(pair.scores.primary),
        "scores": list(encodable(sample.scores).items()),
    }
