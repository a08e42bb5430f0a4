"""One run of lm-evaluation-harness, in its own environment: score_lm_eval.py JOB.json RESULT.json"""

import json
import sys
import time
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peak import peak_mib

job = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(job["threads"])
model = HFLM(job["model"], device="cpu", dtype="float32", batch_size=job["lm_eval_batch"], max_length=job["window"])
pairs = [tuple(pair) for document in job["documents"] for pair in document]
requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
cpu, wall = time.process_time(), time.monotonic()
scores = model.loglikelihood(requests, disable_tqdm=True)
result = {"inference_cpu": time.process_time() - cpu, "inference_wall": time.monotonic() - wall}
result["peak_mib"] = peak_mib()
Path(sys.argv[2]).write_text(json.dumps(result | {"scores": [float(value) for value, _ in scores]}))
