"""A run in the schema of Every Eval Ever (https://github.com/evaleval/every_eval_ever), version 0.3.0.

data/{data set}/{developer}/{model}/{id}.json has the scores of a model on a data set, {id}_samples.jsonl a line for
each sample and metric. The id is a UUID of version 4, as the schema requires, but derived from the inputs of the
scores, so that the same run is exported to the same files.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from shardmark import __version__
from shardmark.files import write_whole
from shardmark.records.sample import Sample
from shardmark.records.score import Metric
from shardmark.report.pair import Pair
from shardmark.tasks.frames import as_sent
from shardmark.tasks.requests import as_text

from .finished import Asked, Finished, asked_of, plain_json
from .names import MetricName, hub_dataset, hub_id, label_of, metric_names, model_id, place_of_rows, shots

VERSION = "0.3.0"
"The version of the schema."
NOBODY = "unknown"
BOUNDS: dict[str, tuple[float, float | str]] = {
    "perplexity": (1.0, "Infinity"),
    "word_perplexity": (1.0, "Infinity"),
    "byte_perplexity": (1.0, "Infinity"),
    "bits_per_byte": (0.0, "Infinity"),
    "brier_score": (0.0, 2.0),
    "mcc": (-1.0, 1.0),
}
"The least and the largest value of metrics that are not fractions."

Json = dict[str, Any]


class _Scored(NamedTuple):
    """A pair under the schema's names."""

    pair: Pair
    names: dict[str, MetricName]
    uuid: str
    evaluation: str
    model: str


def export_every_eval(finished: Finished, out: Path) -> list[str]:
    """Write both files of each pair, and return what they leave out. Raises UserError."""
    left_out = [f"{gap.model.name} on {gap.dataset.name}: {gap.status}" for gap in finished.scored.gaps]
    for pair in finished.scored:
        scored = _identified(pair)
        folder = Path("data", pair.scores.dataset.name, *_folders(scored.model))
        record = _aggregate(scored)
        if not record["evaluation_results"]:
            left_out.append(f"{pair.scores.model.name} on {pair.scores.dataset.name}: no finite value")
            continue
        if pair.samples is not None:
            path = folder / f"{scored.uuid}_samples.jsonl"
            lines = [
                plain_json(line) + "\n" for asked in asked_of(finished, pair) for line in _instances(scored, asked)
            ]
            text = "".join(lines).encode()
            write_whole(out / path, text)
            record["detailed_evaluation_results"] = {
                "format": "jsonl",
                "file_path": path.as_posix(),
                "hash_algorithm": "sha256",
                "checksum": hashlib.sha256(text).hexdigest(),
                "total_rows": len(lines),
            }
        write_whole(out / folder / f"{scored.uuid}.json", plain_json(record) + "\n")
    return left_out


def _identified(pair: Pair) -> _Scored:
    scores = pair.scores
    model = model_id(scores)
    made_of = f"{scores.model.name}@{scores.model.digest} {scores.dataset.name}@{scores.dataset.digest}"
    made_of += f" {pair.timings.samples_sha256}" if pair.timings else ""
    key = uuid.UUID(bytes=hashlib.sha256(made_of.encode()).digest()[:16], version=4)
    return _Scored(pair, metric_names(scores), str(key), f"{scores.dataset.name}/{model}/{_ended(pair)}", model)


def _folders(model: str) -> tuple[str, str]:
    """Developer and model as folder names."""
    developer, _, name = model.rpartition("/")
    safe = [part.replace("/", "_").replace("\\", "_").strip(".") or NOBODY for part in (developer, name)]
    return safe[0], safe[1]


def _ended(pair: Pair) -> str:
    """The time when inference ended, in seconds since 1970."""
    return str(int(datetime.fromisoformat(pair.timings.finished).timestamp())) if pair.timings else "0"


def _aggregate(scored: _Scored) -> Json:
    pair, scores = scored.pair, scored.pair.scores
    return {
        "schema_version": VERSION,
        "evaluation_id": scored.evaluation,
        "evaluation_timestamp": _ended(pair),
        "retrieved_timestamp": _ended(pair),
        "source_metadata": {
            "source_name": "Shardmark",
            "source_type": "evaluation_run",
            "source_organization_name": NOBODY,
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "shardmark",
            "version": scores.provenance.shardmark,
            "additional_details": _texts(exported_by=__version__, git_commit=scores.provenance.git_commit),
        },
        "model_info": _model(scored),
        "evaluation_results": [
            _result(scored, label, metric) for label, metric in scores.metrics.items() if metric.value is not None
        ],
    }


def _model(scored: _Scored) -> Json:
    scores = scored.pair.scores
    settings = scores.provenance.config.get("model", {})
    elsewhere, backend = "base_url" in settings, settings.get("backend", "transformers")
    found: Json = {
        "name": scores.model.name,
        "id": scored.model,
        "additional_details": {
            "deployment_type": "externally_managed" if elsewhere else "self_deployed",
            "model_availability": "open_weights" if hub_id(scores) else NOBODY,
            **_texts(
                digest=scores.model.digest,
                revision=scores.model.revision,
                dtype=scores.model.dtype,
                num_gpus=scores.model.num_gpus,
            ),
        },
    }
    if "/" in scored.model:
        found["developer"] = scored.model.partition("/")[0]
    if not elsewhere:
        version = scores.provenance.packages.get(backend)
        found["inference_engine"] = {"name": backend} | ({"version": version} if version else {})
    return found


def _result(scored: _Scored, label: str, metric: Metric) -> Json:
    scores, name = scored.pair.scores, scored.names[label]
    found: Json = {
        "evaluation_result_id": _result_id(name),
        "evaluation_name": name.task if name.chain == "none" else f"{name.task}/{name.chain}",
        "source_data": _source(scored),
        "evaluation_timestamp": _ended(scored.pair),
        "metric_config": _metric(label, name, metric),
        "score_details": {
            "score": metric.value,
            "details": _texts(
                n=metric.n,
                limit=scores.dataset.part,
                asked="chat" if scores.dataset.is_chat else "text",
                dataset_digest=scores.dataset.digest,
                remarks="; ".join(scores.counts.remarks()),
                primary=label == scores.primary,
            ),
            "uncertainty": _uncertainty(metric),
        },
    }
    if scores.dataset.kind == "generate":
        found["generation_config"] = _generation(scored)
    return found


def _result_id(name: MetricName) -> str:
    return f"{name.task}:{name.metric}:{name.chain}"


def _source(scored: _Scored) -> Json:
    scores = scored.pair.scores
    details = {"additional_details": _texts(rows=place_of_rows(scores), revision=scores.dataset.revision)}
    if repository := hub_dataset(scores):
        found = {"dataset_name": scores.dataset.name, "source_type": "hf_dataset", "hf_repo": repository}
        split = scores.provenance.rows.get("split")
        samples = {"samples_number": scores.counts.samples} if not scores.dataset.part else {}
        return found | ({"hf_split": split} if split else {}) | samples | details
    return {"dataset_name": scores.dataset.name, "source_type": "other"} | details


def _metric(label: str, name: MetricName, metric: Metric) -> Json:
    """A metric's entry; values are Shardmark's: fractions, not percent."""
    found: Json = {
        "metric_name": label,
        "metric_id": f"shardmark.{name.metric}",
        "metric_unit": "proportion" if metric.percent else "points",
        "lower_is_better": not metric.higher_is_better,
        "additional_details": {"lm_eval_key": name.key},
    }
    bounds = (0.0, 1.0) if metric.percent else BOUNDS.get(name.metric)
    if bounds:
        found |= {"score_type": "continuous", "min_score": bounds[0], "max_score": bounds[1]}
    return found


def _uncertainty(metric: Metric) -> Json:
    found: Json = {"num_samples": metric.n}
    how = "bootstrap" if metric.interval == "bootstrap" else "analytic"
    if metric.stderr is not None:
        found["standard_error"] = {"value": metric.stderr, "method": how}
    low, high = metric.ci95 or (None, None)
    if low is not None and high is not None:
        ends = {"lower": low, "upper": high, "confidence_level": 0.95}
        found["confidence_interval"] = ends | ({"method": metric.interval} if metric.interval else {})
    return found


def _generation(scored: _Scored) -> Json:
    scores = scored.pair.scores
    settings = scores.provenance.config.get("dataset", {}).get("generation") or {}
    given: Json = {"temperature": settings.get("temperature"), "reasoning": scores.counts.reasoning is not None}
    if settings.get("temperature"):
        given |= {"top_p": settings.get("top_p"), "top_k": settings.get("top_k") or None}
    if settings.get("max_new_tokens"):
        given["max_tokens"] = settings["max_new_tokens"]
    more = _texts(stop=plain_json(settings.get("stop", [])), shots=shots(scores), samples=settings.get("samples"))
    return {"generation_args": given, "additional_details": more}


def _instances(scored: _Scored, asked: Asked) -> Iterator[Json]:
    """A line for each metric that gives the sample a score."""
    sample, context = asked.sample, asked.requests[0].context  # the sample's prompt may be that of its choice
    raw = as_text(context)
    texts = sample.outputs or ([] if sample.output is None else [sample.output])
    targets = sample.target if isinstance(sample.target, list) else [sample.target]
    references = [_chosen(sample, target) for target in targets]
    base = {
        "schema_version": VERSION,
        "evaluation_id": scored.evaluation,
        "model_id": scored.model,
        "sample_id": sample.sample,
        "sample_hash": hashlib.sha256(json.dumps({"raw": raw, "reference": references}).encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {
            "raw": raw,
            "formatted": as_sent(context, asked.answers[0]),
            "reference": references,
            "choices": [str(choice) for choice in sample.choices] if sample.choices else None,
        },
        "output": {
            "raw": [str(text) for text in texts],
            "reasoning_trace": [sample.reasoning] if sample.reasoning else None,
        },
        "messages": None,
        "error": {"time": "ended by the clock", "refusal": "refused", "filter": "withheld"}.get(sample.end or ""),
        "metadata": _texts(request=sample.request, group=sample.group, truncated=sample.truncated, tied=sample.tied),
    }
    filters = _filters(scored.pair)
    for label, score in sample.scores.items():
        known = label_of(scored.names, label, sample.group)
        if known not in scored.names or score is None:
            continue
        name, metric = scored.names[known], scored.pair.scores.metrics[known]
        answer = (sample.answers or {}).get(name.chain, [sample.answer])[0]
        attribution = {
            "turn_idx": 0,
            "source": "output.raw",
            "extracted_value": "" if answer is None else _chosen(sample, answer),
            "extraction_method": filters.get(name.chain) or "none",
            "is_terminal": True,
        }
        yield base | {
            "evaluation_name": name.task if name.chain == "none" else f"{name.task}/{name.chain}",
            "evaluation_result_id": _result_id(name),
            "answer_attribution": [attribution],
            "evaluation": {"score": score, "is_correct": metric.percent and metric.higher_is_better and score == 1.0},
        }


def _chosen(sample: Sample, answer: object) -> str:
    """An answer as text; for choices, the text with this index."""
    if sample.choices and isinstance(answer, int) and 0 <= answer < len(sample.choices):
        return str(sample.choices[answer])
    return answer if isinstance(answer, str) else plain_json(answer)


def _filters(pair: Pair) -> dict[str, str]:
    """The filters of each chain, by name."""
    settings = pair.scores.provenance.config.get("dataset", {})
    chains = settings.get("chains") or {"none": settings.get("filters") or []}
    return {chain: ", ".join(str(each["name"]) for each in filters) for chain, filters in chains.items()}


def _texts(**values: object) -> dict[str, str]:
    """The known values as texts: the schema accepts no other details."""
    return {key: str(value) for key, value in values.items() if value not in (None, "")}
