"""Models behind endpoints are checked, priced and asked for what they have before the first request."""

import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import pytest
import trustme
from openai.types.shared.reasoning_effort import ReasoningEffort
from rich.console import Console

from fake_endpoint import record
from projects import GENERATE, ROWS, plan, problems, write_dataset, write_model, write_rows, write_yaml
from shardmark.config.backends.openai import OpenaiConfig
from shardmark.plan import endpoints
from shardmark.plan.endpoints import MAX_COST, answer_problems, use_max_cost
from shardmark.plan.summary import bills, print_summary, wall_seconds

pytestmark = pytest.mark.usefixtures("one_authority")
CHOICE = {"kind": "choice", "prompt": "{{ question }}", "choices": ["1", "2"], "target": "0", "metrics": ["accuracy"]}
KEY = "sk-a-secret"
ENDLESS = " "
"A body that is sent over and over."
Answer = Callable[[str, str], tuple[int, Any]]


@contextmanager
def endpoint(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that answers a path and the header Authorization with a status and a value."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, value = answer(self.path, self.headers.get("Authorization", ""))
            text = value if isinstance(value, str) else json.dumps(value)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 308:
                self.send_header("Location", text)
            self.end_headers()
            with suppress(ConnectionError):
                while self.wfile.write(text.encode()) and text == ENDLESS:
                    pass

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def lists(*names: str) -> Answer:
    return lambda path, key: (200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


def project(root: Path, base_url: str, datasets: dict[str, dict[str, Any]] | None = None, **keys: Any) -> Path:
    values = {"backend": "openai", "base_url": base_url, "model": "tiny"} | keys
    write_yaml(root / "config/models/api.yaml", {key: value for key, value in values.items() if value is not None})
    for name, asks in (datasets or {"ask": GENERATE}).items():
        write_rows(root / "rows.jsonl", ROWS)
        write_dataset(root, name, **asks)
    return root


NOWHERE = "http://127.0.0.1:9/v1"
Keys = dict[str, Any]


@pytest.mark.parametrize(
    ("keys", "key", "says"),
    [
        ({"base_url": "https://me:secret@host/v1"}, "base_url", "contains a password"),
        ({"base_url": "ftp://host/v1"}, "base_url", "not an address"),
        ({"api_key_env": KEY}, "api_key_env", "never the key"),
        ({"num_gpus": 1}, "", "uses no GPU here"),
        ({"extra_body": {"temperature": 1}}, "", "extra_body.temperature is set by generation.temperature"),
        ({"headers": {"X-Api-Key": KEY}}, "", "headers.X-Api-Key seems to hold a key"),
        ({"headers": {"Ocp-Apim-Subscription-Key": KEY}}, "", "headers.Ocp-Apim-Subscription-Key seems to hold a key"),
        ({"headers": {"Helicone-Auth": f"Bearer {KEY}"}}, "", "headers.Helicone-Auth seems to hold a key"),
        ({"answer_headers": {"X-Access-Key": KEY}}, "", "answer_headers.X-Access-Key seems to hold a key"),
        ({"headers": {"X-Team": "sk-proj-0123456789abcdef"}}, "", "headers.X-Team seems to hold a key"),
        ({"headers": {"X-Team": "${A} 0123456789abcdef0123456789abcdef"}}, "", "headers.X-Team seems to hold a key"),
        ({"headers": {"X-Api-Key": 123456789012}}, "headers.X-Api-Key", "valid string"),
        ({"extra_body": {"api_key": KEY}}, "", "extra_body.api_key seems to hold a key"),
        ({"extra_body": {"a": [{"hf_token": KEY}]}}, "", "extra_body.a.hf_token seems to hold a key"),
        ({"extra_body": {"user": "hf_0123456789abcdef"}}, "", "extra_body.user seems to hold a key"),
        ({"extra_body": {"password": "a ${B}"}}, "", "write ${NAME}"),
        ({"api_key_env": "hf_0123456789abcdefgh"}, "api_key_env", "never the key"),
        ({"extra_body": {"best_of": 5}}, "", "extra_body.best_of is set by nothing: each answer is a request"),
        ({"extra_body": {"n": 5}}, "", "extra_body.n is set by samples"),
        ({"extra_body": {"max_new_tokens": 500}}, "", "is set by generation.max_new_tokens"),
        ({"extra_body": {"reasoning_effort": "minimal"}}, "", "extra_body.reasoning_effort is set by reasoning"),
        ({"reasoning": "off"}, "", "do not support off: give one of none, minimal, low"),
        ({"headers": {"X-B": "1"}, "answer_headers": {"x-b": "2"}}, "", "x-b is in both headers and answer_headers"),
        ({"base_url": f"{NOWHERE}/models"}, "base_url", "drop /models"),
        ({"base_url": "http://127.0.0.1:9/chat/completions/"}, "base_url", "drop /chat/completions/"),
        ({"base_url": f"{NOWHERE}?api_key=abcdef"}, "base_url", "its query seems to hold a key"),
        ({"base_url": f"{NOWHERE}?code={'a1' * 16}"}, "base_url", "its query seems to hold a key"),
        ({"base_url": f"{NOWHERE}?a=1&a=2"}, "base_url", "gives a key twice"),
        ({"base_url": f"{NOWHERE}#a"}, "base_url", "drop everything from #"),
        ({"snapshot": 2026.11}, "snapshot", "valid string"),
        ({"snapshot": date(2026, 11, 1)}, "snapshot", "YAML reads 2026-11-01 as a date, not as text"),
        ({"headers": {"authorization": f"Bearer {KEY}"}}, "", "write ${NAME}"),
        ({"reasoning": {"budget": 9}}, "", "do not support"),
        ({"apply_chat_template": False}, "", "accepts only chats"),
        ({"tokenizer_path": "org/m"}, "", "the endpoint renders chats"),
        ({"api": "completions", "continue_final_message": True}, "", "continue_final_message has no effect"),
        ({"base_url": f"{NOWHERE}/chat/completions"}, "base_url", "drop /chat/completions"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "base_url", "an invalid port"),
        ({"base_url": "http://my host/v1"}, "base_url", "contains a blank"),
        ({"headers": {"a b": "c"}}, "", "not a valid name or value of a header"),
        ({"headers": {"X-A": "b\nc"}}, "", "not a valid name or value of a header"),
        ({"headers": {"Content-Type": "text/plain"}}, "", "set by the request itself"),
        ({"headers": {"X-A": "Team $TEAM"}}, "", "write ${NAME}"),
        ({"headers": {"X-A": "${1}"}}, "", "write ${NAME}"),
        ({"headers": {"Authorization": "Bearer ${A}"}, "api_key_env": "B"}, "", "keep one"),
        ({"extra_body": {"a": float("nan")}}, "", "not valid JSON"),
        ({"extra_body": {"truncate_prompt_tokens": 5}}, "", "set by max_seq_len"),
        ({"slurm": {"partition": "gpu"}}, "", "slurm has no effect"),
        ({"template_date": "2026-01-01"}, "", "template_date has no effect"),
        ({"trust_remote_code": True}, "", "trust_remote_code has no effect"),
        ({"api": "completions", "reasoning": "low"}, "", "needs a tokenizer_path"),
        ({"api": "completions", "tokenizer_kwargs": {"use_fast": False}}, "", "needs a tokenizer_path"),
        ({"api": "completions", "chat_template_kwargs": {"a": 1}}, "", "needs a tokenizer_path"),
        ({"price": {"input": 1}}, "price.output", "required"),
        ({"concurrency": 0}, "concurrency", "greater than 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, keys: Keys, key: str, says: str) -> None:
    [problem] = problems(plan, project(tmp_path, **{"base_url": NOWHERE} | keys))
    assert problem.where == "config/models/api.yaml"
    assert problem.key == key
    assert says in problem.what
    for secret in (KEY, "0123456789abcdef", "=abcdef", "123456789012"):
        assert secret not in problem.what


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    keys = {"api_key_env": "NO_SUCH_KEY", "headers": {"X-Team": "team ${NO_TEAM}"}}
    keys["extra_body"] = {"a": "${NO_TEAM}"}
    project(tmp_path, NOWHERE, {"asked_ppl": CHOICE, "asked_gen": GENERATE}, **keys)
    found = problems(plan, tmp_path, max_cost=5)
    assert [problem.key for problem in found] == ["backend", "api_key_env", "extra_body.a", "headers.X-Team", "price"]
    assert "asked_ppl (choice)" in found[0].what
    assert found[0].fix.startswith("ask asked_gen instead")
    assert "NO_SUCH_KEY is not set" in found[1].what


def test_what_an_endpoint_says_of_key_and_model_is_told_before_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    asked = []

    def answer(path: str, key: str) -> tuple[int, Any]:
        asked.append((path, key))
        return 401, {"error": {"message": f"wrong key {KEY}"}}

    with endpoint(answer) as url:
        [problem] = problems(plan, project(tmp_path, url, api_key_env="A_KEY"))
    assert asked == [("/v1/models", f"Bearer {KEY}")]
    assert problem.key == "api_key_env"
    assert "status 401" in problem.what
    assert KEY not in str(problem)
    with endpoint(lists("tiny-2", "other")) as url:
        [problem] = problems(plan, project(tmp_path, url))
    assert problem.key == "model"
    assert "tiny-2" in problem.fix


def test_a_look_before_the_run_uses_no_proxy_for_this_machine_and_no_key_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    keys = []

    def answer(path: str, key: str) -> tuple[int, Any]:
        keys.append(key)
        return lists("tiny")(path, key)

    with endpoint(answer) as url:
        assert plan(project(tmp_path, url)).pairs
    assert keys == [""]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda path, key: (404, {}), "it has neither /models nor /chat/completions"),
        (lambda path, key: (200, "<html>"), "lists no models"),
        (lambda path, key: (200, {"data": 5}), "lists no models"),
        (lambda path, key: (200, "[" * 100_000), "lists no models"),
        (lambda path, key: (404, {}) if path == "/v1/models" else (401, {}), "status 401"),
    ],
)
def test_an_address_that_is_none_is_told(tmp_path: Path, answer: Answer, says: str) -> None:
    with endpoint(answer) as url:
        [problem] = problems(plan, project(tmp_path, url))
    assert says in problem.what


@pytest.mark.parametrize(("limit", "value"), [("SECONDS", 0.1), ("MOST_BYTES", 100)])
def test_a_list_of_models_that_does_not_end_holds_up_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(endpoints, limit, value)
    with endpoint(lambda path, key: (200, ENDLESS)) as url:
        [problem] = problems(plan, project(tmp_path, url))
    assert "lists no models" in problem.what


def test_an_endpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    [problem] = problems(plan, project(tmp_path, NOWHERE))
    assert (problem.key, "cannot be reached" in problem.what) == ("base_url", True)
    [problem] = answer_problems(record(f"{NOWHERE.removesuffix('/v1')}?a=1"))
    assert problem.fix.startswith(f"is it {NOWHERE}?a=1?")


@pytest.mark.parametrize(
    ("variable", "value", "fix"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "pip install socksio"),
        ("all_proxy", "socks://127.0.0.1:9/", "unset"),
        ("HTTP_PROXY", "http://me:pass/word@127.0.0.1:9", "unset"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "unset"),
    ],
)
def test_proxies_and_certificates_that_cannot_be_used_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, fix: str
) -> None:
    monkeypatch.setenv(variable, value)
    [problem] = problems(plan, project(tmp_path, "http://192.0.2.1/v1"))
    assert "proxies or certificates cannot be used" in problem.what
    assert "pass" not in str(problem)
    assert fix in problem.fix
    assert variable in problem.fix


def test_an_address_may_have_no_version_and_a_query() -> None:
    paths = []

    def answer(path: str, key: str) -> tuple[int, Any]:
        paths.append(path)
        return lists("tiny")(path, key)

    with endpoint(answer) as url:
        for end in ("/inference/", "", "/", "/deployments/tiny/?api-version=2024-10-21&a"):
            assert answer_problems(record(f"{url.removesuffix('/v1')}{end}", model="tiny")) == []
    assert paths == ["/inference/models", "/models", "/models", "/deployments/tiny/models?api-version=2024-10-21&a="]


def test_a_certificate_that_is_not_trusted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    with endpoint(lists("tiny"), context) as url:
        model = record(url.replace("http://", "https://"), model="tiny")
        [problem] = answer_problems(model)
        assert "its certificate is not trusted" in problem.what
        assert "SSL_CERT_FILE" in problem.fix
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert answer_problems(model) == []
    with endpoint(lists("tiny")) as url:
        [problem] = answer_problems(record(url.replace("http://", "https://")))
    assert "begin with http://" in problem.fix


def test_an_address_that_only_redirects_is_told(tmp_path: Path) -> None:
    with endpoint(lambda path, key: (308, "https://elsewhere/v1")) as url:
        [problem] = problems(plan, project(tmp_path, url))
    assert problem.key == "base_url"
    assert "it redirects to https://elsewhere/v1" in problem.what


@pytest.mark.parametrize(
    "answer",
    [
        lists("tiny"),
        lambda path, key: (503, {}),
        lambda path, key: (404 if path == "/v1/models" else 400, {}),
        lambda path, key: (403 if path == "/v1/models" else 400, {}),
        lambda path, key: (200, [{"id": "tiny"}]),
        lambda path, key: (200, {"data": [{"id": None}, {"id": "tiny"}]}),
        lambda path, key: (200, {"data": [{"id": "other"}], "has_more": True}),
        lambda path, key: (200, {"data": [{"id": "models/tiny"}]}),
    ],
)
def test_one_that_is_busy_or_has_no_list_is_planned(tmp_path: Path, answer: Answer) -> None:
    with endpoint(answer) as url:
        [pair] = plan(project(tmp_path, url)).pairs
    assert pair.dataset.is_chat
    assert pair.requests == len(ROWS)


def test_a_text_for_chats_and_a_chat_for_texts_are_refused(tmp_path: Path) -> None:
    asks = {"plain": GENERATE | {"apply_chat_template": False}, "chat": GENERATE | {"apply_chat_template": True}}
    with endpoint(lists("other")) as url:
        [problem, unknown] = problems(plan, project(tmp_path, url, asks))
        assert "asked as texts: plain" in problem.what
        assert "does not serve 'tiny'" in unknown.what
        [problem, _] = problems(plan, project(tmp_path, url, asks, api="completions"))
    assert "asked in chats: chat" in problem.what


def test_the_beginning_of_an_answer_needs_an_endpoint_that_goes_on_with_it(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "{{ question }}"}, {"role": "assistant", "content": "It is"}]
    asks = {"begun": {"kind": "generate", "messages": messages, "target": "answer", "metrics": ["exact_match"]}}
    with endpoint(lists("tiny")) as url:
        [problem] = problems(plan, project(tmp_path, url, asks))
        assert problem.key == "continue_final_message"
        assert plan(project(tmp_path, url, asks, continue_final_message=True)).pairs


def test_a_window_longer_than_the_servers_is_refused(tmp_path: Path) -> None:
    told = {"object": "list", "data": [{"id": "tiny", "object": "model", "max_model_len": 1000}]}
    with endpoint(lambda path, key: (200, told)) as url:
        [problem] = problems(plan, project(tmp_path, url, max_seq_len=2000))
        assert (problem.key, "its window is 1,000" in problem.what) == ("max_seq_len", True)
        assert plan(project(tmp_path, url, max_seq_len=1000)).pairs


def test_a_window_that_no_prompt_is_cut_to_is_told(tmp_path: Path) -> None:
    with endpoint(lists("tiny")) as url:
        [note] = plan(project(tmp_path, url, max_seq_len=2000)).warnings
    assert (note.where, note.key) == ("config/models/api.yaml", "max_seq_len")
    assert "no prompt is truncated" in note.what


def test_requests_tokens_and_money_are_counted_at_most(tmp_path: Path) -> None:
    asks = GENERATE | {"generation": {"max_new_tokens": 100, "samples": 3, "temperature": 1.0}}
    with endpoint(lists("tiny")) as url:
        made = plan(project(tmp_path, url, {"ask": asks}, price={"input": 1e6, "output": 2e6}, max_out_len=50))
    bill = bills(made.pairs)["api"]
    assert (bill.requests, bill.written) == (15, 15 * 50)
    assert bill.read == pytest.approx(15 * len("Q: What is 0 + 1?\nA:") / 4, abs=1)
    assert bill.money == pytest.approx(bill.read + 2 * bill.written, abs=1)
    assert "15 requests" in str(bill)
    assert "at most about 0.0012 in" in str(bill._replace(money=0.00123))


@pytest.mark.parametrize("pace", [{"requests_per_minute": 2.5}, {"tokens_per_minute": 4, "requests_per_minute": 100}])
def test_a_plan_takes_as_long_as_the_limits_of_a_minute_require(tmp_path: Path, pace: dict[str, float]) -> None:
    asks = GENERATE | {"generation": {"max_new_tokens": 100, "samples": 3, "temperature": 1.0}}
    with endpoint(lists("tiny")) as url:
        made = plan(project(tmp_path, url, {"ask": asks}, **pace))
    told = StringIO()
    print_summary(made, Console(file=told, width=200), lambda pair: None)
    requests, tokens = 15, 15 * len("Q: What is 0 + 1?\nA:") / 4
    minutes = tokens / 4 if "tokens_per_minute" in pace else requests / 2.5
    assert wall_seconds(made.pairs, None) == pytest.approx(60 * minutes)
    assert f"at least {minutes:.0f} min at its pace" in told.getvalue()


def test_the_limit_of_money_reaches_the_jobs_and_that_of_an_earlier_run_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MAX_COST, "1")
    use_max_cost({"max_cost": 2.5})
    assert os.environ[MAX_COST] == "2.5"
    use_max_cost({})
    assert MAX_COST not in os.environ


def test_a_limit_of_money_without_an_endpoint_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "ask", **GENERATE)
    [problem] = problems(plan, tmp_path, max_cost=5)
    assert (problem.key, "none of its models is behind an endpoint" in problem.what) == ("max_cost", True)


def test_a_new_snapshot_is_another_model_and_another_pace_or_price_is_not() -> None:
    def identity(**keys: Any) -> Keys:
        return OpenaiConfig.model_validate({"base_url": NOWHERE, "model": "tiny"} | keys).identity()

    for same in (
        {"concurrency": 3},
        {"price": {"input": 1, "output": 1}},
        {"timeout": 5},
        {"api_key_env": "A"},
        {"headers": {"X-Team": "blue"}},
    ):
        assert identity(**same) == identity()
    for other in (
        {"snapshot": "2026-11"},
        {"extra_body": {"a": 1}},
        {"model": "other"},
        {"max_out_len": 3},
        {"answer_headers": {"X-Beta": "1"}},
    ):
        assert identity(**other) != identity()
    assert identity(answer_headers={"A": "1", "B": "2"}) == identity(answer_headers={"b": "2", "a": "1"})


def test_what_only_looks_like_a_secret_is_accepted() -> None:
    fields = {"bos_token": "<s>", "prompt_cache_key": "a run", "skip_special_tokens": False, "tokenizer": "org/name"}
    fields |= {"stop_token_ids": [1], "metadata": {"author": "me"}, "api_key": "${A_KEY}"}
    headers = {"X-Author": "me", "X-Max-Tokens": "100", "X-Key": "Bearer ${A_KEY}"}
    OpenaiConfig.model_validate({"base_url": NOWHERE, "model": "m", "extra_body": fields, "headers": headers})


@pytest.mark.parametrize("effort", get_args(get_args(ReasoningEffort)[0]))
def test_every_effort_that_the_package_openai_knows_can_be_given(effort: str) -> None:
    OpenaiConfig.model_validate({"base_url": NOWHERE, "model": "m", "reasoning": effort})


def test_where_chats_become_texts_here_reasoning_is_the_templates() -> None:
    here = {"api": "completions", "tokenizer_path": "org/m", "reasoning": "off"}
    OpenaiConfig.model_validate({"base_url": NOWHERE, "model": "m"} | here)


def test_a_header_that_may_change_answers_is_noted(tmp_path: Path) -> None:
    headers = {"headers": {"X-Beta": "1", "X-Team": "a"}, "answer_headers": {"X-Version": "2"}}
    with endpoint(lists("tiny")) as url:
        [note] = plan(project(tmp_path, url, **headers)).warnings
    assert (note.key, "answer_headers" in note.fix) == ("headers.X-Beta", True)
