"""What a run would find missing is known before its first job, and the Hub is left alone where it is to be."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from projects import model_record
from shardmark.config import RunConfig
from shardmark.config.offline import FOUND, SWITCHES, hub_answers, is_offline, use_offline
from shardmark.plan import missing as missing_module
from shardmark.plan.hub_files import Place, no_room
from shardmark.plan.missing import files_not_here, missing_problems, remote_code_problems
from shardmark.plan.plan import Plan
from shardmark.records.model import Commit, Folder, HubFile, HubRepository, ModelRecord

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": HubFile(size=2, git="a"), "model.safetensors": HubFile(size=5_000_000_000, sha256="b")}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is set, and the Hub's cache is empty."""
    for name in (*SWITCHES, FOUND, "HF_ENDPOINT", "HF_HUB_CACHE", "http_proxy", "https_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "")  # so that what a test sets goes with it
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Answering(BaseHTTPRequestHandler):
    """A server that has no pages."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answering) as running:
        Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(("value", "offline"), [(True, True), ("true", True), (False, False), (None, False)])
def test_offline_sets_what_the_libraries_read(value: object, offline: bool) -> None:
    use_offline({} if value is None else {"offline": value})
    assert [name in os.environ for name in SWITCHES] == [offline] * 4
    assert is_offline() == offline


def test_a_library_that_has_read_its_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", module)  # type: ignore[arg-type]
    use_offline({"offline": True})
    assert module.HF_HUB_OFFLINE is True


def test_auto_asks_the_hub_once_and_whoever_is_started_does_not(
    monkeypatch: pytest.MonkeyPatch, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server)
    use_offline({"offline": "auto"})
    assert (is_offline(), os.environ[FOUND]) == (False, "yes")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    use_offline({"offline": "auto"})
    assert not is_offline()
    monkeypatch.delenv(FOUND)
    use_offline({"offline": "auto"}, is_main=False)
    assert (is_offline(), FOUND in os.environ) == (False, False), "a job does not ask"
    monkeypatch.setenv("HF_ENDPOINT", "http://name:secret@127.0.0.1:9")
    use_offline({"offline": "auto"})
    assert is_offline()
    assert "offline: 127.0.0.1:9 does not answer" in (told := capsys.readouterr().err)
    assert "secret" not in told


def test_a_hub_that_says_nothing_is_out_of_reach_soon(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", silent)
    begun = time.monotonic()
    assert not hub_answers(0.2)
    assert time.monotonic() - begun < 5


def test_the_setting_is_one_of_three() -> None:
    for value in (True, False, "auto"):
        assert RunConfig(offline=value).offline == value  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="offline"):
        RunConfig.model_validate({"offline": "sometimes"})


def on_the_hub(files: dict[str, HubFile] = FILES, **settings: Any) -> ModelRecord:
    source = HubRepository(path="org/m", identity=Commit(repository="org/m", commit=COMMIT), files=files)
    return model_record(source=source, **settings)


def test_without_a_network_each_file_is_named_with_its_size_and_what_fetches_it() -> None:
    use_offline({"offline": True})
    (problem,) = missing_problems([on_the_hub()])
    assert problem.what == f"org/m@{COMMIT}: config.json (2 bytes), model.safetensors (5.0 GB) are missing"
    assert f"`hf download org/m --revision {COMMIT}`" in problem.fix
    assert "`snakemake stage --profile local`" in problem.fix
    (unknown,) = missing_problems([on_the_hub({})])
    assert "none of it is in the Hub's cache" in unknown.what


def test_a_model_that_has_answered_all_is_not_loaded() -> None:
    models = [SimpleNamespace(full_name="done"), SimpleNamespace(full_name="waits")]
    pairs = [SimpleNamespace(model=model, requests=requests) for model, requests in zip(models, (0, 1), strict=True)]
    assert Plan.waiting_models(SimpleNamespace(models=models, pairs=pairs)) == models[1:]  # type: ignore[arg-type]


def test_what_a_plan_refuses_and_what_is_not_here_is_one_list() -> None:
    assert files_not_here([on_the_hub()]) == [], "it can be fetched"
    use_offline({"offline": True})
    assert [problem.key for problem in files_not_here([on_the_hub()])] == ["path"]


def test_with_a_network_only_what_the_hub_refuses_and_the_disk_cannot_take_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str, str]] = []
    refusal = ("org/m is gated", "accept its terms")
    monkeypatch.setattr(missing_module, "file_refusal", lambda *file: asked.append(file) or refusal)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000_000))
    gated, full = missing_problems([on_the_hub()])
    assert (gated.key, gated.what, gated.fix) == ("path", *refusal)
    assert asked == [("org/m", COMMIT, "config.json")]
    assert full.what.startswith("org/m: 5.0 GB must be downloaded to ")
    assert full.what.endswith("where 1.0 GB are free")


def test_a_disk_with_room_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(on_the_hub(), "path", on_the_hub().source)  # type: ignore[arg-type]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**12))
    assert no_room(5_000_000_000, "org/m", place) is None


@pytest.mark.parametrize(
    ("config", "settings", "refused"),
    [
        ('{"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}', {}, True),
        (
            '{"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}',
            {"trust_remote_code": True},
            False,
        ),
        ('{"model_type": "llama", "auto_map": {"AutoConfig": "modeling_mine.Mine"}}', {}, False),
        ('{"model_type": "mine", "auto_map": {"AutoTokenizer": ["tokenization_mine.Mine", null]}}', {}, False),
        ('{"model_type": "llama"}', {}, False),
        ("[]", {}, False),
    ],
)
def test_code_that_comes_with_weights_must_be_allowed(
    tmp_path: Path, config: str, settings: dict[str, Any], refused: bool
) -> None:
    (tmp_path / "config.json").write_text(config)
    record = model_record(source=Folder(path=str(tmp_path), identity={}), **settings)
    assert [problem.key for problem in remote_code_problems(record)] == ["trust_remote_code"] * refused
