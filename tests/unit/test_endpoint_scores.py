"""Log-likelihoods and texts of an endpoint that runs a model are those of the local engine with the same weights."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from asked import by_id, choice, generate, rolling
from fake_endpoint import FakeEndpoint, choices, record, serving
from shardmark.engine.endpoints.backend import EndpointBackend, open_backend
from shardmark.errors import UserError
from shardmark.records.model import Staged

SCORED = by_id(
    [
        choice(("The sky is", " blue"), ("The sky is", " a"), ("The sky is", " END")),
        choice(("", "ab"), ("", "c")),
        choice(("x" * 80, "yz")),
        rolling("word by word, " * 12),
    ]
)
WINDOW = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def local(folder: Path) -> Any:
    return tiny_models.load_backend(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


Answer = Callable[[dict[str, Any]], dict[str, Any]]


def served(model: Any, tokenizer: Any, body: dict[str, Any], way: str = "echo") -> dict[str, Any]:
    """What a server with this model answers; `way` is how it knows to tell of the prompt's tokens."""
    import torch

    prompt, new = list(body["prompt"]), []
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0].double()
        while len(new) < body["max_tokens"] and (not new or new[-1] != tokenizer.eos_token_id):
            ids = torch.tensor([prompt + new])
            new.append(int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax()))
    ended = new[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(new, skip_special_tokens=True)
    answer: dict[str, Any] = {"text": text, "finish_reason": "stop" if ended else "length"}
    values = torch.log_softmax(logits, -1)
    if way == "echo" and body.get("echo"):
        told = [None, *(float(values[n, token]) for n, token in enumerate(prompt[1:])), -1.0]
        tops = [
            None,
            *({"top": float(values[n].max()), "own": told[n + 1]} for n in range(len(prompt) - 1)),
            {"": -1.0},
        ]
        tokens = [tokenizer.decode([token]) for token in [*prompt, new[0]]]
        answer["logprobs"] = {"tokens": tokens, "token_logprobs": told, "top_logprobs": tops}
    if way == "prompt_logprobs" and "prompt_logprobs" in body:
        ranks = [int((values[n] > values[n, token]).sum()) + 1 for n, token in enumerate(prompt[1:])]
        answer["prompt_logprobs"] = [
            None,
            *(
                {str(token): {"logprob": float(values[n, token]), "rank": ranks[n]}}
                for n, token in enumerate(prompt[1:])
            ),
        ]
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(new)}
    return choices("", api="completions") | {"choices": [answer], "usage": usage}


@pytest.fixture
def opened(folder: Path, results: Path) -> Iterator[Callable[..., EndpointBackend]]:
    held: list[EndpointBackend] = []

    def open_one(endpoint: FakeEndpoint, **settings: Any) -> EndpointBackend:
        settings = {"api": "completions", "tokenizer_path": str(folder), "max_seq_len": WINDOW} | settings
        backend = open_backend(record(endpoint.url, **settings), Staged(model="", tokenizer=str(folder)), lambda: None)
        backend.join(results, os.getpid())
        held.append(backend)
        return backend

    yield open_one
    for backend in held:
        backend.close()


def answers(backend: Any, requests: dict[str, Any]) -> dict[str, Any]:
    return {prediction.id: prediction for batch in backend.answer(requests) for prediction in batch}


def assert_same_scores(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for key, one in wanted.items():
        assert found[key].logprobs == pytest.approx(one.logprobs, abs=1e-3)
        assert (found[key].tokens, found[key].greedy, found[key].cut) == (one.tokens, one.greedy, one.cut)


@pytest.mark.parametrize("way", ["echo", "prompt_logprobs"])
def test_log_likelihoods_are_those_of_the_local_engine(
    opened: Any, local: Any, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is two shorter here: one token of the prompt is scored, and one is written."""
    monkeypatch.setattr(local, "scoring_window", WINDOW - 2)
    wanted = answers(tiny_models.local_backend(folder, local), SCORED)
    with serving(partial(served, local.model, local.tokenizer, way=way)) as endpoint:
        backend = opened(endpoint)
        found = answers(backend, SCORED)
        assert_same_scores(found, wanted)
        assert max(len(body["prompt"]) for body in endpoint.bodies) == WINDOW - 1
        asked = len(endpoint.bodies)
        answers(backend, SCORED)
        assert len(endpoint.bodies) - asked == asked - (way == "prompt_logprobs")  # the way is sought once
    prompts = {tuple(body["prompt"]) for body in endpoint.bodies}
    assert sum(one.read for one in found.values()) == sum(map(len, prompts))
    assert sum(one.written for one in found.values()) == len(prompts)
    assert {one.served for one in found.values()} == {"fake-1 fp_1"}


def test_texts_are_those_of_the_local_engine(
    opened: Any, local: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "window", WINDOW)
    requests = by_id(
        [generate("Once upon", new=9), generate("a" * 70, new=5), generate("Q: x\nA:", new=12, stop=["A"])]
    )
    wanted = answers(tiny_models.local_backend(folder, local), requests)
    with serving(partial(served, local.model, local.tokenizer)) as endpoint:
        found = answers(opened(endpoint), requests)
    assert {key: (one.text, one.cut) for key, one in found.items()} == {
        key: (one.text, one.cut) for key, one in wanted.items()
    }


@pytest.mark.parametrize("told", ["nothing", "generated alone"])
def test_an_endpoint_that_ignores_echo_is_found_out_by_its_first_answer(opened: Any, local: Any, told: str) -> None:
    """As llama.cpp's server, whose choices would all score alike."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        made = served(local.model, local.tokenizer, body, way="none")
        if told != "nothing":
            made["choices"][0]["logprobs"] = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}
        return made

    with serving(answer) as endpoint:
        with pytest.raises(UserError, match="does not return the log-probabilities of prompts") as caught:
            answers(opened(endpoint), SCORED)
        assert len(endpoint.bodies) == 2
    assert caught.value.problems[0].key == "base_url"


def test_an_endpoint_that_forgets_some_later_is_found_out_too(opened: Any, local: Any) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        made = served(local.model, local.tokenizer, body)
        if len(endpoint.bodies) > 3:
            made["choices"][0]["logprobs"]["token_logprobs"].pop()
            made["choices"][0]["logprobs"]["token_logprobs"].pop()
        return made

    with serving(answer) as endpoint, pytest.raises(UserError, match="though earlier answers had them all"):
        answers(opened(endpoint), SCORED)


def test_a_server_that_adds_a_bos_of_its_own_is_found_out(
    opened: Any, local: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its log-probabilities are as many as the prompt's tokens and the generated one."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        made = served(local.model, local.tokenizer, body)
        made["usage"]["prompt_tokens"] += 1
        return made

    with serving(answer) as endpoint:
        with pytest.raises(UserError, match="were sent: it adds its own, such as BOS") as caught:
            answers(opened(endpoint), by_id([choice(("ab", "c"), ("ab", "d"))]))
        assert len(endpoint.bodies) == 1
        backend = opened(endpoint)
        answers(backend, by_id([generate("Once", new=3), generate("upon", new=3)]))
        with pytest.raises(UserError, match="it adds its own"):
            answers(backend, by_id([choice(("ab", "c"))]))
    assert caught.value.problems[0].key == "base_url"
    assert caplog.text.count("answers may differ") == 1


def test_a_server_that_tokenizes_some_prompts_again_is_found_out(opened: Any, local: Any) -> None:
    """One token fewer and the generated one are as many log-probabilities as the prompt has tokens."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        made = served(local.model, local.tokenizer, body)
        if len(endpoint.bodies) > 1:
            made["usage"]["prompt_tokens"] -= 1
            for values in made["choices"][0]["logprobs"].values():
                values.pop(-2)
        return made

    with serving(answer) as endpoint, pytest.raises(UserError, match="adds its own, such as BOS, or cuts"):
        answers(opened(endpoint), SCORED)


@pytest.mark.parametrize("way", ["echo", "prompt_logprobs"])
def test_a_model_of_another_vocabulary_is_found_out(opened: Any, local: Any, way: str) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        made = served(local.model, local.tokenizer, body, way)
        choice = made["choices"][0]
        if "logprobs" in choice:
            choice["logprobs"]["tokens"] = [f"t{token}" for token in body["prompt"]] + ["x"]
        for known in choice.get("prompt_logprobs", [None])[1:]:
            for token, facts in known.items():
                facts["decoded_token"] = f"t{token}"
        return made

    with serving(answer) as endpoint, pytest.raises(UserError, match="tokens differ from the tokenizer") as caught:
        answers(opened(endpoint), SCORED)
    assert caught.value.problems[0].key == "tokenizer_path"
