"""What a report must not tell: home folders, users, keys, passwords of proxies; whatever tells it where."""

import json
from pathlib import Path
from typing import Any

import pytest

from shardmark.report import private
from shardmark.report.build import build_report
from unit.report.fake_results import FACTS, Files, make_samples, make_scores, read_chunk, write_pair

SECRETS = [
    "/home/alice/models", "/Users/alice", "C:\\Users\\alice\\x", "/data/home/alice", "/scratch/alice/run",
    "alice@login-1",
    "hf_abcdefghijklmnop", "sk-proj-abcdefghijklmnop123", "http://alice:s3cretpw@proxy.example:3128",
    "OPENAI_API_KEY=topsecretvalue", "--api-key topsecretvalue", "ghp_abcdefghijklmnopqrst",
    "Bearer abcdefghijkl1234567",
]  # fmt: skip
TOLD = ["alice", "hf_abcdefgh", "sk-proj-abc", "s3cretpw", "topsecretvalue", "ghp_abcdef", "abcdefghijkl1234567"]


@pytest.fixture(autouse=True)
def _as_alice(monkeypatch: pytest.MonkeyPatch) -> None:
    private._homes.cache_clear()
    private._users.cache_clear()
    private._public_text.cache_clear()
    for name in ("LOGNAME", "USER", "SUDO_USER"):
        monkeypatch.setenv(name, "alice")
    monkeypatch.setenv("HOME", "/people/alice")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/bob/models/x", "~/models/x"),
        ("file:///home/bob/x", "file://~/x"),
        ("/people/alice/x and /people/alice2/x", "~/x and /people/alice2/x"),
        ("C:\\Users\\bob\\x", "~\\x"),
        ("/root/.cache/huggingface/hub/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f2", "meta-llama/Llama-3.1-8B"),
        ("hf_path=/home/bob/hub/datasets--cais--mmlu/snapshots/abc/all.parquet", "hf_path=cais/mmlu/all.parquet"),
        ("http://user:pw@proxy:3128", "http://***@proxy:3128"),
        ("/scratch/alice/x", "/scratch/user/x"),
        ("alice/llama-tuned", "alice/llama-tuned"),
        ("/data/models/llama", "/data/models/llama"),
        ("what a /homely/ thing, malice, rooted", "what a /homely/ thing, malice, rooted"),
        ("max_new_tokens: 32, tokenizer_path=x", "max_new_tokens: 32, tokenizer_path=x"),
        ("password = hunter2, api_key: 'abc'", "password = ***, api_key: '***'"),
    ],
)
def test_texts_lose_what_is_private_and_nothing_else(text: str, shown: str) -> None:
    assert private.public(text) == shown


def test_values_of_secret_keys_are_hidden_whatever_they_look_like() -> None:
    value = {"api_key": "x", "headers": {"Authorization": "y"}, "tokens": "z", "max_tokens": 3, "key": "k"}
    value |= {"hf_token": ""}
    expected = {"api_key": "***", "headers": {"Authorization": "***"}, "tokens": "z", "max_tokens": 3, "key": "k"}
    assert private.public(value) == expected | {"hf_token": ""}


def everywhere() -> str:
    return " ; ".join(SECRETS)


def test_nothing_private_is_in_any_file_of_a_report(tmp_path: Path) -> None:
    files = Files([], [])
    samples = make_samples("m", "demo_arithmetic", 5)
    scores = make_scores("m", "demo_arithmetic", samples)
    text = everywhere()
    for part in ("model", "dataset"):
        scores[part] |= {"description": text, "source": text}
    scores["provenance"] |= {"hardware": {"cpu": text}, "packages": {"torch": text}, "rows": {"file": text}}
    config: dict[str, Any] = {"model": {"hf_path": text, text: [text]}, "dataset": {"x": text}, "weights": [text]}
    scores["provenance"] |= {"shardmark": text, "config": config}
    write_pair(tmp_path, files, scores, samples)
    name = {"name": "m", "digest": scores["model"]["digest"]}
    gap = {"model": name, "dataset": {"name": "other", "digest": "d"}, "status": "failed", "reason": text, "log": text}
    facts = FACTS | {"command": text, "config": {"path": text}, "host": text, "more": text}
    told = {"models": {"m": text}, "datasets": {"demo_arithmetic": text}}
    group = {"name": "g", "members": ["demo_arithmetic"], "description": text}
    build_report("run", *files, tmp_path / "out", facts, told, groups=[group], gaps=[gap])
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        is_chunk = path.suffix == ".js" and path.name != "vega.js"
        content = read_chunk(path.read_bytes()).decode() if is_chunk else path.read_text("utf-8")
        assert [secret for secret in TOLD if secret in content] == [], path


def test_the_crate_names_each_file_and_what_was_run(tmp_path: Path) -> None:
    files = Files([], [])
    samples = make_samples("m", "demo_arithmetic", 5)
    scores = make_scores("m", "demo_arithmetic", samples)
    scores["model"] |= {"source": "google/gemma-3-270m", "revision": "0" * 40}
    write_pair(tmp_path, files, scores, samples)
    out = build_report("run", *files, tmp_path / "out", FACTS).parent
    crate = json.loads((out / "ro-crate-metadata.json").read_text("utf-8"))
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    assert entities["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    root = entities["./"]
    assert {"name", "description", "datePublished", "license", "hasPart"} <= root.keys()
    for part in root["hasPart"]:
        assert (out / part["@id"]).exists()
    assert {part["@id"] for part in root["hasPart"]} >= {"index.html", "samples.html", "leaderboard.csv", "data/"}
    action = entities[root["mentions"]["@id"]]
    links = [*action["instrument"], *action["object"], *action["result"], *root["hasPart"]]
    assert all(link["@id"] in entities for link in links)
    assert entities["#model-m"]["url"] == f"https://huggingface.co/google/gemma-3-270m/tree/{'0' * 40}"
    assert entities["#torch-2.13.0"]["version"] == "2.13.0"
    assert action["description"] == FACTS["command"]
