"""vLLM says which token comes next; what ends an answer and what its text is are as in the engine of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from asked import by_id, choice, generate, rolling
from fake_vllm import FakeEngine, vllm  # noqa: F401  # a fixture
from shardmark.engine.local import LocalBackend
from shardmark.engine.vllm.model import VllmModel, _seed
from shardmark.errors import UserError
from shardmark.records.prediction import Prediction

MARKS = ("<think>", "</think>")
pytestmark = pytest.mark.usefixtures("vllm")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("random")
    return folder, tiny_models.load_backend(tiny_models.random_model(folder))


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A model that writes <think>mnop</think>yz after Q."""
    folder = tmp_path_factory.mktemp("thinker")
    tiny_models.chain_model(folder, "Q<think>mnop</think>yz<eos>", marks=MARKS)
    return folder, tiny_models.load_backend(folder)


def of_vllm(local: Any, **engine: Any) -> VllmModel:
    """The same weights in the stand-in for vLLM."""
    bounds = {"window": local.window, "scoring_window": local.window - 2, "rows": local.rows, "ends": local.ends}
    return VllmModel(FakeEngine(local.model, **engine), local.tokenizer, **bounds)


def answers(loaded: tuple[Path, Any], model: Any, requests: Sequence[Any], **said: Any) -> dict[str, Prediction]:
    backend = LocalBackend(tiny_models.model_record(loaded[0], **said), model)
    made = [prediction for done in backend.answer(by_id(requests)) for prediction in done]
    assert len(made) == len({prediction.id for prediction in made}) == len(requests)
    return {prediction.id: prediction for prediction in made}


def test_answers_are_those_of_the_engine_of_its_own(loaded: tuple[Path, Any]) -> None:
    prompts = [f"{n} abc" for n in range(20)]
    free = answers(loaded, loaded[1], [generate(prompt, 6) for prompt in prompts])
    letters = [one.text[-1:] or "b" for one in free.values()]  # type: ignore[union-attr]
    requests = [generate(p, 1 + n % 6, letters[n : n + 3], min_new_tokens=n % 2) for n, p in enumerate(prompts)]
    requests += [generate("Q\nQ", 5, ["<eos>"]), generate("one", 4), generate("x" * 60, 3)]
    found = answers(loaded, of_vllm(loaded[1]), requests)
    assert found == answers(loaded, loaded[1], requests)
    assert len({each.end for each in found.values()}) > 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "said",
    [{"reasoning": {"budget": 2}}, {"reasoning": {"budget": 9}}, {"reasoning_tokens": 6}, {"max_out_len": 1}],
    ids=str,
)
def test_thoughts_are_bounded_as_in_the_engine_of_its_own(thinker: tuple[Path, Any], said: dict[str, Any]) -> None:
    requests = [generate(prompt, new, stop) for prompt in ("Q", "Q<think>", "x") for new, stop in ((2, []), (9, ["z"]))]
    assert answers(thinker, of_vllm(thinker[1]), requests, **said) == answers(thinker, thinker[1], requests, **said)


def test_a_row_that_ends_before_vllm_knows_is_aborted_there(thinker: tuple[Path, Any]) -> None:
    model = of_vllm(thinker[1])
    (found,) = answers(thinker, model, [generate("x", 9, ["xx"])]).values()
    assert (found.text, found.end, found.tokens) == ("", "stop", 2)  # type: ignore[union-attr]
    assert model.engine.aborted == ["0"]
    assert model.engine.steps == 2


def test_who_leaves_in_the_middle_leaves_nothing_behind(loaded: tuple[Path, Any]) -> None:
    model = of_vllm(loaded[1])
    backend = LocalBackend(tiny_models.model_record(loaded[0]), model)
    going = backend.answer(by_id([generate(str(n), 1 + 3 * n) for n in range(6)]))
    next(going)
    going.close()  # type: ignore[attr-defined]
    assert not model.engine.waiting


def test_what_has_finished_before_the_engine_dies_is_given_first(loaded: tuple[Path, Any]) -> None:
    model = of_vllm(loaded[1])
    model.engine.fails_at = 5
    backend = LocalBackend(tiny_models.model_record(loaded[0]), model)
    made: list[Prediction] = []
    going = backend.answer(by_id([generate(f"Q{n}", 2, min_new_tokens=2) for n in range(20)]))
    with pytest.raises(RuntimeError, match="the engine has died"):
        made.extend(prediction for done in going for prediction in done)
    assert len(made) == 8


def test_logits_that_are_no_numbers_are_an_error_that_names_the_request(loaded: tuple[Path, Any]) -> None:
    model = of_vllm(loaded[1])
    model.engine.broken.add("0")
    with pytest.raises(UserError, match=r"request [0-9a-f]{16}: a logit after 0 new tokens is not a number"):
        answers(loaded, model, [generate("abc", 3)])


def test_scores_are_those_of_the_engine_of_its_own(loaded: tuple[Path, Any]) -> None:
    requests = [choice((f"{n} abc", " x"), (f"{n} abc", "yz"), ("", "abcabc")) for n in range(6)]
    found, wanted = (answers(loaded, model, requests) for model in (of_vllm(loaded[1]), loaded[1]))
    for key, one in wanted.items():
        assert found[key].logprobs == pytest.approx(one.logprobs, abs=1e-4)  # type: ignore[union-attr]
        assert (found[key].tokens, found[key].greedy) == (one.tokens, one.greedy)  # type: ignore[union-attr]


def test_a_prompt_to_score_leaves_room_for_the_token_that_vllm_writes(loaded: tuple[Path, Any]) -> None:
    model = of_vllm(loaded[1])
    answers(loaded, model, [rolling("abc " * 80), choice(("Q " * 90, " x"))])
    assert max(len(row.prompt) for row in model.engine.asked) == loaded[1].window - 1


def test_an_engine_that_keeps_log_probabilities_to_itself_is_an_error(loaded: tuple[Path, Any]) -> None:
    model = of_vllm(loaded[1])
    model.engine._prompt = lambda row, logits: [None]  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="vLLM returned 1 log-probabilities for 4 tokens"):
        answers(loaded, model, [choice(("xy", "z"))])


def test_greedy_answers_are_asked_again_alone_and_those_that_differ_are_counted(loaded: tuple[Path, Any]) -> None:
    requests = [generate(f"Q{n}", 5, min_new_tokens=5) for n in range(9)]
    same = of_vllm(loaded[1])
    answers(loaded, same, requests)
    assert (same.repeated, same.differing) == (4, 0)
    again = same.engine.asked[9:]
    assert [row.params.skip_reading_prefix_cache for row in again] == [True] * 4
    other = of_vllm(loaded[1], change=lambda batch, token: token if batch == 1 else 7)
    answers(loaded, other, requests)
    assert (other.repeated, other.differing) == (4, 4)


def test_drawn_answers_are_not_asked_again_and_a_lone_one_tells_nothing(loaded: tuple[Path, Any]) -> None:
    model = of_vllm(loaded[1])
    answers(loaded, model, [generate("Q", 3)])
    answers(loaded, model, [generate("Q", 3, temperature=1.0, samples=3)])
    assert model.repeated == 0


def test_each_sample_has_a_seed_of_its_own_that_the_request_decides(loaded: tuple[Path, Any]) -> None:
    def seeds(*requests: Any) -> list[int]:
        model = of_vllm(loaded[1])
        answers(loaded, model, requests)
        return [row.params.seed for row in model.engine.asked]

    asked = generate("Q", 3, temperature=1.0, samples=3)
    alone = seeds(asked)
    assert len(set(alone)) == 3
    assert set(alone) <= set(seeds(generate("R", 3, temperature=1.0), asked))
    assert set(alone).isdisjoint(seeds(generate("Q", 3, temperature=1.0, samples=3, seed=1)))
    assert all(0 <= seed < 1 << 63 for seed in alone)


def test_sampling_settings_reach_vllm_beyond_the_bounds_it_checks(loaded: tuple[Path, Any]) -> None:
    model = of_vllm(loaded[1])
    drawn = [generate("Q", 3, temperature=t, top_k=4, top_p=0.5, min_new_tokens=9) for t in (0.001, 0.7, 3.0)]
    answers(loaded, model, [*drawn, generate("Q", 3)])
    found = {(row.params.temperature, row.params.top_k, row.params.top_p) for row in model.engine.asked}
    assert found == {(0.001, 4, 0.5), (0.7, 4, 0.5), (3.0, 4, 0.5), (0.0, 0, 1.0)}
    assert {row.params.min_tokens for row in model.engine.asked} == {0, 3}


def test_no_more_rows_than_it_should_have_wait_in_vllm(
    loaded: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardmark.engine.vllm.model.GENERATED_AT_ONCE", 3)
    monkeypatch.setattr("shardmark.engine.vllm.model.SCORED_AT_ONCE", 3)
    most = 0
    model = of_vllm(loaded[1])
    before = model.engine.step

    def step() -> list[Any]:
        nonlocal most
        most = max(most, len(model.engine.waiting))
        return before()

    model.engine.step = step  # type: ignore[method-assign]
    answers(loaded, model, [*(generate(f"Q{n}", 2) for n in range(8)), *(choice((str(n), "x")) for n in range(8))])
    assert most == 3


def test_what_goes_on_after_a_budget_is_drawn_with_another_seed() -> None:
    from shardmark.engine.generation import GenerateRow

    row = GenerateRow([1], 3, [], request="a")
    assert _seed(row, 0) != _seed(row, 1)
    assert _seed(row, 0) == _seed(row, 0)
