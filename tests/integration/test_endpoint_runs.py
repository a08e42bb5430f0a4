"""Runs whose model is behind an endpoint: planned, asked, resumed, paid, scored and reported."""

import csv
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fake_endpoint import FakeEndpoint, Fault, asked_text, choices, serving
from workflow import Project

pytestmark = pytest.mark.slow

ROWS = 60
KEY, HEADER_KEY, BODY_KEY = "sk-secret-0123456789", "header-secret-0123456789", "body-secret-0123456789"


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """Each question's own number; of one, a refusal; thoughts beside it."""
    number = asked_text(body).split()[-1]
    said: dict[str, Any] = {"role": "assistant", "content": f"It is {number}", "reasoning_content": str(body.get("a"))}
    if number == "7":
        said |= {"content": None, "refusal": "I must not: 0 <script>alert(0)</script>"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 2}}
    return choices("", usage=usage) | {"choices": [{"index": 0, "finish_reason": "stop", "message": said}]}


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with serving(answer) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("FAR_KEY", KEY)
    monkeypatch.setenv("HEADER_KEY", HEADER_KEY)
    monkeypatch.setenv("BODY_KEY", BODY_KEY)
    made = Project.create(tmp_path / "project", run="test", models=["far"], datasets=["say"], max_shard_size=16)
    write(made, "models/far", endpoint.url)
    rows = [{"n": str(n)} for n in range(ROWS)]
    (made.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asks = {"kind": "generate", "prompt": "Say {{ n }}", "target": "n", "generation": {"max_new_tokens": 20}}
    asks |= {"source": {"file": "rows.jsonl"}, "filters": ["last_number"], "metrics": ["exact_match"]}
    (made.folder / "config/datasets/say.yaml").write_text(yaml.safe_dump(asks))
    return made


def write(project: Project, name: str, url: str, **more: Any) -> None:
    price = {"input": 1e6, "output": 1e6}  # a token costs one
    values = {"backend": "openai", "base_url": url, "model": "fake", "api_key_env": "FAR_KEY", "price": price} | more
    values |= {"headers": {"Helicone-Auth": "Bearer ${HEADER_KEY}"}, "extra_body": {"a": [{"token": "${BODY_KEY}"}]}}
    (project.folder / f"config/{name}.yaml").write_text(yaml.safe_dump(values))


def test_a_run_asks_each_question_once_and_tells_tokens_money_and_refusals(
    project: Project, endpoint: FakeEndpoint
) -> None:
    dry = project.run("-n")
    assert project.announced(dry)["infer_endpoint"] >= 4
    assert f"endpoint of far: {ROWS} requests" in dry
    assert f"at most {ROWS * 20:,} to write" in dry
    assert not endpoint.asked
    project.run()
    assert endpoint.asked.total() == len(endpoint.asked) == ROWS
    assert {headers["authorization"] for headers in endpoint.headers} == {f"bearer {KEY}".lower()}
    assert {headers["helicone-auth"] for headers in endpoint.headers} == {f"bearer {HEADER_KEY}"}
    assert {body["a"][0]["token"] for body in endpoint.bodies} == {BODY_KEY}
    with open(project.folder / "results/reports/test/leaderboard.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["value"]) == pytest.approx((ROWS - 1) / ROWS)
    report = project.folder / "results/reports/test"
    page = (report / "index.html").read_text() + (report / "provenance.html").read_text()
    assert "fake-1 fp_1" in page
    assert "refused or withheld by the endpoint: " in page
    assert "900.00" in page  # money: 60 x (10 + 5)
    assert "<script>alert(0)" not in "".join(path.read_text() for path in project.folder.glob("results/**/*.html"))
    (timings,) = (project.folder / "results/timings").glob("*/*.json")
    usage = json.loads(timings.read_text())["usage"]
    assert usage == {"read": 600, "written": 300, "money": 900.0, "served": {"fake-1 fp_1": ROWS}}
    written = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    keys = [key.encode() for key in (KEY, HEADER_KEY, BODY_KEY)]
    assert [path for path, content in written.items() if any(key in content for key in keys)] == []
    assert "Nothing to be done" in project.run()
    write(project, "models/far", endpoint.url, snapshot="2026-11")
    assert project.planned()["infer_endpoint"] >= 4


def test_faults_kills_and_the_end_of_the_money_lose_nothing_and_ask_nothing_twice(
    project: Project, endpoint: FakeEndpoint
) -> None:
    faults = [
        Fault("reset"),
        Fault("half"),
        Fault("broken"),
        Fault(status=503, headers={"retry-after": "0.1"}),
        Fault(),
    ]
    endpoint.fault = lambda text, nth: (
        faults[sum(text.encode()) % 5] if nth == 1 and sum(text.encode()) % 3 == 0 else None
    )
    endpoint.seconds = 0.3
    write(project, "models/far", endpoint.url, concurrency=3)
    run = project.start()
    deadline = time.monotonic() + 120
    while endpoint.answered.total() < 12 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()
    run.communicate()
    assert not project.outlived()
    project.run("--unlock")
    endpoint.fault = lambda *_: None
    before = endpoint.answered.copy()
    assert 0 < before.total() < ROWS
    kept = sum(len(path.read_bytes().splitlines()) for path in project.folder.glob("results/predictions/*/*/*"))
    assert kept >= before.total() - 2 * 3  # what was on its way, in each of two jobs
    said = project.run("--config", "max_cost=300", succeeds=False)
    assert "max_cost" in said
    assert 15 * (endpoint.answered.total() - before.total()) <= 300
    project.run()
    assert set(endpoint.answered) == {f"Say {n}" for n in range(ROWS)}
    assert endpoint.answered.total() <= ROWS + 2 * 3
    with open(project.folder / "results/reports/test/leaderboard.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["value"]) == pytest.approx((ROWS - 1) / ROWS)


def test_an_interrupt_keeps_what_arrived_and_a_later_price_asks_nothing(
    project: Project, endpoint: FakeEndpoint
) -> None:
    endpoint.seconds = 0.5
    write(project, "models/far", endpoint.url, concurrency=4, price=None)
    run = project.start()
    deadline = time.monotonic() + 120
    while endpoint.answered.total() < 12 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert not project.outlived()
    whole = endpoint.answered.total()
    project.run()
    assert endpoint.answered.total() - ROWS <= 4, f"{whole} were answered before the interrupt"
    before, page = endpoint.asked.total(), project.folder / "results/reports/test/provenance.html"
    assert "900.00" not in page.read_text()
    write(project, "models/far", endpoint.url)
    project.run()
    assert endpoint.asked.total() == before
    assert "900.00" in page.read_text()


def test_two_runs_with_one_results_folder_ask_each_question_once(project: Project, endpoint: FakeEndpoint) -> None:
    endpoint.seconds = 0.3
    project.configure(run="test", models=["far"], datasets=["say"], max_shard_size=16, results=str(project.results))
    write(project, "models/far", endpoint.url, concurrency=4)
    other = project.copy(project.folder.with_name("other"))
    runs = [project.start(), other.start()]
    for run in runs:
        said, _ = run.communicate(timeout=300)
        assert run.returncode == 0, said
    assert endpoint.asked.total() == len(endpoint.asked) == ROWS
    assert endpoint.most_in_flight <= 4
