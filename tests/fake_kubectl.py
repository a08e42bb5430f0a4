#!/usr/bin/env python
"""A stand-in for the command `kubectl`, which runs the one container of a job on this machine, without an image.

It notes each call in the folder that FAKE_SCHEDULER names, and each job's specification there. As long as there is a
file `hold` in it, jobs do not begin.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SCHEDULER"])


def create(spec: dict) -> str:
    name = spec["metadata"]["name"]
    (container,) = spec["spec"]["template"]["spec"]["containers"]
    (FOLDER / f"{name}.json").write_text(json.dumps(spec))
    status = shlex.quote(str(FOLDER / f"{name}.status"))
    held = f"while [ -e {shlex.quote(str(FOLDER / 'hold'))} ]; do sleep 0.2; done"
    line = f"{held}; {shlex.join(container['command'])}; echo $? > {status}.new; mv {status}.new {status}"
    environment = [f"{variable['name']}={variable['value']}" for variable in container["env"]]
    with open(FOLDER / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            ["env", "-i", "PATH=/usr/bin:/bin", *environment, "sh", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=container["workingDir"],
        )
    (FOLDER / f"{name}.pid").write_text(str(process.pid))
    return f"job.batch/{name}"


def get(name: str) -> str:
    if not (FOLDER / f"{name}.pid").exists():
        sys.exit(f'Error from server (NotFound): jobs.batch "{name}" not found')
    status = FOLDER / f"{name}.status"
    if not status.exists():
        return json.dumps({"kind": "Job", "status": {"active": 1, "ready": 1}})
    kind = "Complete" if status.read_text().strip() == "0" else "Failed"
    return json.dumps({"kind": "Job", "status": {"conditions": [{"type": kind, "status": "True"}]}})


def delete(name: str) -> str:
    pid = FOLDER / f"{name}.pid"
    os.killpg(int(pid.read_text()), signal.SIGKILL)
    pid.unlink()
    return f'job.batch "{name}" deleted'


if __name__ == "__main__":
    words = sys.argv[1:]
    with open(FOLDER / "calls.jsonl", "a") as calls:
        calls.write(json.dumps(words) + "\n")
    match words:
        case ["create", "--filename=-", "--output=name"]:
            print(create(json.load(sys.stdin)))
        case ["get", "job", name, "--namespace=team", "--output=json"]:
            print(get(name))
        case ["delete", "job", name, "--namespace=team", "--wait=false"]:
            print(delete(name))
        case _:
            sys.exit(f"unknown command: {words}")
