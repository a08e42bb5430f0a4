"""Answers by lm-evaluation-harness, for its own environment: python lm_eval_oracle.py JOBS.json ANSWERS.json

A job is {model: folder, window: tokens, pairs: [[context, continuation], ...], prompts: [[prompt, settings], ...],
rolling: [text, ...]} with the settings of generate_until; its answers are {scores: [[log-likelihood, is greedy], ...],
texts: [text, ...], rolling: [[[log-likelihood, false]], ...]}.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM


def answers(job: dict[str, Any]) -> dict[str, Any]:
    """As lm-eval computes them, with two settings of its own, and one row at a time.

    Its cache takes requests with the same tokens for the same request, wherever their continuations begin: off. And
    float32 log_softmax on a CPU adds up a large vocabulary naively, which moves each token by 6e-5 with 262k: float64.
    """
    options = {"device": "cpu", "dtype": "float32", "softmax_dtype": "float64", "logits_cache": False}
    model = HFLM(job["model"], batch_size=1, max_length=job["window"], **options)
    scored = [Instance("loglikelihood", {}, tuple(pair), n) for n, pair in enumerate(job["pairs"])]
    written = [Instance("generate_until", {}, tuple(prompt), n) for n, prompt in enumerate(job["prompts"])]
    scores = model.loglikelihood(scored, disable_tqdm=True) if scored else []
    texts = model.generate_until(written, disable_tqdm=True) if written else []
    whole = [Instance("loglikelihood_rolling", {}, (text,), n) for n, text in enumerate(job["rolling"])]
    rolling = model.loglikelihood_rolling(whole, disable_tqdm=True) if whole else []
    return {"scores": [(float(value), bool(greedy)) for value, greedy in scores], "texts": texts} | {
        "rolling": [[(float(value), False)] for value in rolling]
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    jobs = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([answers(job) for job in jobs]))
