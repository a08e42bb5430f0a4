#!/usr/bin/env python
"""A stand-in for the command `dlc`, which runs a job on this machine, without this environment.

What it prints follows public recordings of the real one: the table of a submission, the JSON of `get job`, the
lines of `stop job`. It notes each call in the folder that FAKE_SCHEDULER names. As long as there is a file `hold` in
it, jobs do not begin.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SCHEDULER"])
ROW = "+------------------+--------------------------------------+\n"


def submit(flags: dict[str, str]) -> str:
    job = f"dlc{time.time_ns():x}"
    status = shlex.quote(str(FOLDER / f"{job}.status"))
    held = f"while [ -e {shlex.quote(str(FOLDER / 'hold'))} ]; do sleep 0.2; done"
    line = f"{held}; {flags['command']}; echo $? > {status}.new; mv {status}.new {status}"
    with open(FOLDER / f"{job}.log", "wb") as log:
        process = subprocess.Popen(
            ["env", "-i", "PATH=/usr/bin:/bin", "HOME=/tmp", "sh", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (FOLDER / f"{job}.pid").write_text(str(process.pid))
    table = f"{ROW}| {'JobId':16} | {'RequestId':36} |\n{ROW}| {job} | 63C1C116-2DAA-58B0-9E35-E0F9A92BBCE1 |\n{ROW}"
    return f"[OK] create job success\n{table}"


def get(job: str) -> str:
    if not (FOLDER / f"{job}.pid").exists():
        return "[FAILED] code: 404, Job not found request id: 63C1C116-2DAA-58B0-9E35-E0F9A92BBCE1"
    status = FOLDER / f"{job}.status"
    text = status.read_text().strip() if status.exists() else ""
    word = {"": "Running", "0": "Succeeded", "stopped": "Stopped"}.get(text, "Failed")
    return json.dumps({"DisplayName": "shardmark", "JobId": job, "JobType": "PyTorchJob", "Status": word}, indent=4)


def stop(job: str) -> str:
    os.killpg(int((FOLDER / f"{job}.pid").read_text()), signal.SIGKILL)
    (FOLDER / f"{job}.status").write_text("stopped")
    return f"[OK] Job [{job}] was stopped successfully"


if __name__ == "__main__":
    words = sys.argv[1:]
    with open(FOLDER / "calls.jsonl", "a") as calls:
        calls.write(json.dumps(words) + "\n")
    match words:
        case ["submit", "pytorchjob", *flags]:
            print(submit(dict(flag.removeprefix("--").split("=", 1) for flag in flags)))
        case ["get", "job", job]:
            print(get(job))
        case ["stop", "job", job, "--force"]:
            print(stop(job))
        case _:
            sys.exit(f"unknown command: {words}")
