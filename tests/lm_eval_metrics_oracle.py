"""Metrics by lm-evaluation-harness, for its own environment: python lm_eval_metrics_oracle.py JOBS.json RESULTS.json

A job {metric, items, draws} becomes [value, standard error]; a job {instructions, kwargs, prompt, responses} becomes,
for each response, whether each instruction is followed strictly and loosely; a job {exact_match, predictions,
references} becomes one number a pair.
"""

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import langdetect
import nltk
from lm_eval.api import metrics
from lm_eval.api.registry import AGGREGATION_REGISTRY


def estimate(job: dict[str, Any]) -> list[float | None]:
    """The value and its standard error."""
    items = [tuple(item) if isinstance(item, list) else item for item in job["items"]]
    function = AGGREGATION_REGISTRY[job["metric"]]
    stderr = metrics.stderr_for_metric(function, job["draws"])
    return [float(function(items)), float(stderr(items)) if stderr else None]


def followed(job: dict[str, Any]) -> list[list[list[bool]]]:
    """Strictly and loosely, for each response.

    NLTK's model of sentences would be downloaded: instructions about sentences stay away. immutabledict is an extra.
    """
    nltk.data.find = lambda name: name
    sys.modules.setdefault("immutabledict", types.SimpleNamespace(immutabledict=dict))
    from lm_eval.tasks.ifeval import utils

    langdetect.DetectorFactory.seed = 0
    asked = utils.InputExample(0, job["instructions"], job["prompt"], job["kwargs"])
    checks = (utils.test_instruction_following_strict, utils.test_instruction_following_loose)
    return [[check(asked, text).follow_instruction_list for check in checks] for text in job["responses"]]


def matches(job: dict[str, Any]) -> list[float]:
    """Exact match of each pair."""
    pairs = zip(job["predictions"], job["references"], strict=True)
    options = job["exact_match"]
    return [
        float(metrics.exact_match_hf_evaluate(predictions=[p], references=[r], **options)["exact_match"])
        for p, r in pairs
    ]


if __name__ == "__main__":
    os.environ["DISABLE_MULTIPROC"] = "1"
    results = [
        followed(job) if "instructions" in job else matches(job) if "exact_match" in job else estimate(job)
        for job in json.loads(Path(sys.argv[1]).read_text())
    ]
    Path(sys.argv[2]).write_text(json.dumps(results))
