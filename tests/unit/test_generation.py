"""Rows join and leave a running batch, whatever fits the memory, and write what they would write alone."""

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from asked import by_id, generate
from shardmark.engine.batches import Limit, OutOfMemoryError
from shardmark.engine.generation import Answer, GenerateRow, RunningRow, Scheduler
from shardmark.engine.prefixes import Prefix
from shardmark.engine.sampling import Sampling
from shardmark.records.base import to_json
from shardmark.records.request import GenerateRequest
from shardmark.tasks.requests import request_id

# Scheduling, with a model that counts down: after token n comes n - 1, and 0 ends the text.

END = 0
WIDTH = 40


class Digits:
    """A tokenizer whose tokens are numbers."""

    def decode(self, tokens: Sequence[int], **kwargs: Any) -> str:
        return "".join(f"{token}," for token in tokens)


class Countdown:
    """A batch on a device that holds so many tokens: what rows may come to have, and prefixes once."""

    def __init__(self, memory: float = float("inf")) -> None:
        self.memory = memory
        self.rows: list[Any] = []
        self.prefixes: set[Prefix] = set()
        self.joined: list[GenerateRow] = []
        self.steps: list[list[GenerateRow]] = []
        self.most = 0

    @property
    def shared_tokens(self) -> int:
        return sum(len(prefix.tokens) for prefix in self.prefixes)

    def join(self, rows: Sequence[Any], tokens: int | None = None) -> None:
        for row in rows:
            self.prefixes |= set(row.prefix.chain() if row.prefix else ())
        self._check([*self.rows, *rows])
        self.rows += rows
        self.joined += [row.row for row in rows]

    def _check(self, rows: Sequence[Any]) -> None:
        used = len(rows) * max(row.own_length for row in rows) + self.shared_tokens
        if used > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.most = max(self.most, used)

    def decode_step(self) -> torch.Tensor:
        self._check(self.rows)
        self.steps.append([row.row for row in self.rows])
        assert all(row.sequence == row.row.inputs + row.generated for row in self.rows)
        return torch.stack([torch.eye(WIDTH)[max(0, row.sequence[-1] - 1)] for row in self.rows])

    def leave(self, gone: Sequence[int]) -> None:
        self.rows = [row for n, row in enumerate(self.rows) if n not in gone]

    def drop_prefix(self, prefix: Prefix) -> None:
        self.prefixes.remove(prefix)

    def clear(self) -> None:
        self.rows, self.prefixes = [], set()


counting_rows = st.lists(
    st.builds(
        lambda inputs, new, stop: GenerateRow(inputs, new, stop),
        st.lists(st.integers(1, WIDTH - 1), min_size=1, max_size=6).map(lambda own: [9, 9, 9, *own]),
        st.integers(1, 20),
        st.lists(st.integers(1, 30).map(lambda n: f"{n},"), max_size=2),
    ),
    max_size=30,
)


def counted(row: GenerateRow) -> Answer:
    """What a row must come to."""
    text = ""
    for count, token in enumerate(range(row.inputs[-1] - 1, END, -1), 1):
        text += f"{token},"
        found = [place for stop in row.stop if (place := text.find(stop)) >= 0]
        if found:
            return Answer(text[: min(found)], count, "stop")
        if count == row.max_new_tokens:
            return Answer(text, count, "length")
    return Answer(text, row.inputs[-1] - 1, "eos")


def run(batch: Any, rows: Sequence[GenerateRow], limit: Limit) -> Iterator[tuple[GenerateRow, Answer]]:
    for done in Scheduler(batch, Digits(), [END], limit).results(rows):
        assert done
        yield from done


@settings(deadline=None)
@given(counting_rows, st.none() | st.integers(1, 9), st.none() | st.integers(1, 150), st.integers(30, 400))
def test_each_row_is_answered_once_within_the_limits(
    rows: list[GenerateRow], most_rows: int | None, most_tokens: int | None, memory: int
) -> None:
    batch = Countdown(memory)
    found = list(run(batch, rows, Limit(most_rows, most_tokens)))
    assert Counter(id(row) for row, _ in found) == Counter(map(id, rows))
    assert all(answer == counted(row) for row, answer in found)
    assert all(len(step) <= (most_rows or len(rows)) for step in batch.steps)
    assert not batch.rows
    assert not batch.prefixes


def countdown(*starts: int, new: int = 50) -> list[GenerateRow]:
    return [GenerateRow([start], new, []) for start in starts]


def test_rows_leave_as_soon_as_they_end_and_waiting_ones_take_their_place() -> None:
    batch = Countdown()
    order = [row.inputs[0] for row, _ in run(batch, countdown(24, 12, 12, 12, 12), Limit(rows=3))]
    assert order == [12, 12, 24, 12, 12]
    assert [len(step) for step in batch.steps] == [3] * 24


def test_answers_are_given_before_others_go_on() -> None:
    batch = Countdown()
    answers = run(batch, countdown(2, 30), Limit())
    assert next(answers)[1].tokens == 1
    assert len(batch.steps) == 2


def test_a_step_is_not_spent_on_reading_a_single_row_while_many_write() -> None:
    batch = Countdown()
    early = GenerateRow([1, 1, 1, 4], 50, [])  # the longest prompt, so it is among the first to join
    list(run(batch, [early, *countdown(*[39] * 23)], Limit(rows=16)))
    assert [len(step) for step in batch.steps[:39]] == [16] * 4 + [15] * 35


def test_memory_counts_shared_prefixes_once_and_longest_rows() -> None:
    rows = [GenerateRow([*range(1, 36), 30 + n], 10, []) for n in range(6)]
    batch = Countdown()
    list(run(batch, rows, Limit(tokens=35 + 3 * 11)))
    assert batch.most == 35 + 3 * 11
    assert max(map(len, batch.steps)) == 3


def test_what_was_written_is_kept_when_memory_runs_out_later() -> None:
    batch = Countdown()
    rows = countdown(30, 30, 30, 30)
    writing = batch.decode_step

    def write() -> torch.Tensor:
        batch.memory = 120 if len(batch.steps) == 10 else batch.memory
        return writing()

    batch.decode_step = write  # type: ignore[method-assign]
    assert [answer for _, answer in run(batch, rows, Limit())] == [counted(row) for row in rows]
    assert sum(map(len, batch.steps)) == 4 * 30


def test_a_row_that_does_not_fit_alone_is_named() -> None:
    rows = countdown(5, 6, new=20) + countdown(7, new=100)
    with pytest.raises(OutOfMemoryError) as caught:
        list(run(Countdown(60), rows, Limit()))
    assert caught.value.row is rows[2]


def test_other_errors_are_not_swallowed() -> None:
    batch = Countdown()
    batch.decode_step = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        list(run(batch, countdown(3), Limit()))


def test_running_out_of_memory_uses_up_no_draw() -> None:
    sampled = Sampling(temperature=1.0)
    row = RunningRow(GenerateRow([5], 9, [], sampling=sampled, request="x"), Digits(), [END])
    first = row.draw()
    assert row.draw() == first
    row.take(3, True)
    assert row.draw() != first


# Models with random weights


JOINED = ("llama", "qwen3", "gpt2", "gpt_neox", "gemma3", "gemma2", "gpt_oss", "mixtral", "deepseek_v3")
DRAWN = {"temperature": 1.0, "top_p": 0.9, "top_k": 40}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tiny_models.random_model(tmp_path_factory.mktemp(name), name) for name in (*JOINED, "mamba")}


@pytest.fixture(scope="module", params=[*JOINED, "mamba"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backend(name: str, folders: dict[str, Path]) -> Any:
    return tiny_models.load_backend(folders[name])


def engine(folder: Path, backend: Any, **more: Any) -> Any:
    return tiny_models.local_backend(folder, backend, **more)


def requests(**more: Any) -> dict[str, Any]:
    """Prompts with examples in common, some longer than the sliding window, with their own lengths and stops."""
    draw = random.Random(4)
    shots = "Q: two?\nA: 2\n\nQ: one?\nA: 1\n\n"
    made = []
    for n in range(10):
        prompt = (shots if n % 3 else "") + "".join(draw.choice("abcdefgh 123") for _ in range(draw.randint(1, 14)))
        made.append(generate(prompt, draw.randint(1, 16), ["\n"] * (n % 2), **more))
    return by_id(made)


def answers(engine: Any, asked: dict[str, Any]) -> dict[str, Any]:
    made = [p for predictions in engine.answer(asked) for p in predictions]
    assert Counter(p.id for p in made) == Counter(asked.keys())
    return {p.id: p for p in made}


def sharded(asked: dict[str, Any], count: int) -> list[dict[str, Any]]:
    return [dict(list(asked.items())[n::count]) for n in range(count)]


@pytest.mark.parametrize("more", [{}, pytest.param(DRAWN | {"samples": 2}, marks=pytest.mark.slow)])
def test_batches_order_and_shards_change_nothing(
    name: str, folders: dict[str, Path], backend: Any, more: dict[str, Any]
) -> None:
    asked = requests(**more)
    wanted = answers(engine(folders[name], backend), asked)
    shuffled = dict(random.Random(1).sample(list(asked.items()), len(asked)))
    batches: list[tuple[dict[str, int], int]] = [({"batch_size": 1}, 3), ({"batch_size": 8}, 1), ({}, 7)]
    for size, count in batches:
        parts = [answers(engine(folders[name], backend, **size), part) for part in sharded(shuffled, count)]
        assert {key: prediction for part in parts for key, prediction in part.items()} == wanted


def generated(backend: Any, request: GenerateRequest) -> tuple[str, int]:
    """What transformers' own generate writes for one row: text and number of tokens."""
    inputs = torch.tensor([backend.tokenizer.encode(request.prompt)])
    more = {"stop_strings": request.stop, "tokenizer": backend.tokenizer} if request.stop else {}
    output = backend.model.generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=request.max_new_tokens,
        min_new_tokens=request.min_new_tokens,
        do_sample=False,
        **more,
    )
    tokens = [token for token in output[0, inputs.shape[1] :].tolist() if token not in backend.ends]
    text = backend.tokenizer.decode(tokens, skip_special_tokens=True)
    return min((text.partition(stop)[0] for stop in request.stop), default=text, key=len), len(tokens)


@pytest.mark.parametrize("more", [{}, {"min_new_tokens": 5, "max_new_tokens": 12}])
def test_greedy_answers_are_those_of_generate_row_by_row(
    name: str, folders: dict[str, Path], backend: Any, more: dict[str, Any]
) -> None:
    asked = requests(**more)
    found = answers(engine(folders[name], backend), asked)
    for key, request in asked.items():
        assert (found[key].text, found[key].tokens) == generated(backend, request)


@pytest.mark.parametrize("least", [0, 1, 4])
def test_the_model_ends_no_text_before_it_may(tmp_path: Path, least: int) -> None:
    folder = tiny_models.chain_model(tmp_path, "2<eos>")
    backend = tiny_models.load_backend(folder)
    request = generate("2", 6, min_new_tokens=least)
    (found,) = answers(engine(folder, backend), {request_id(request): request}).values()
    assert (found.text, found.tokens) == generated(backend, request)
    assert (found.tokens, found.end) == ((0, "eos") if not least else (6, "length"))


def test_which_models_join(name: str, backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    fresh = tiny_models.load_backend(Path(backend.model.name_or_path))
    with caplog.at_level(logging.WARNING):
        plain = [type(fresh.generation(Limit())).__name__ for _ in range(2)]
    assert plain == ["PlainGeneration" if name == "mamba" else "Scheduler"] * 2
    assert caplog.text.count("plain batches") == (name == "mamba")


def test_shared_prefixes_are_used(name: str, backend: Any) -> None:
    """The prompts of the tests above would not test much otherwise."""
    from shardmark.engine.prefixes import shared_prefixes

    prompts = [backend.tokenizer.encode(request.prompt) for request in requests().values()]
    assert sum(prefix is not None for _, prefix in shared_prefixes(prompts)) >= 6


# What is drawn


@pytest.fixture(scope="module")
def llama(folders: dict[str, Path]) -> Any:
    return tiny_models.load_backend(folders["llama"])


def asked(**more: Any) -> dict[str, Any]:
    return by_id([generate("ab", 12, **more)])


def test_samples_are_a_list_of_what_one_is(folders: dict[str, Path], llama: Any) -> None:
    (prediction,) = answers(engine(folders["llama"], llama), asked(**DRAWN, samples=5)).values()
    value = to_json(prediction)
    assert list(value) == ["id", "samples"]
    assert all(list(sample) == ["text", "tokens", "end", "cut"] for sample in value["samples"])
    assert len({sample.text for sample in prediction.samples}) == 5


def test_the_seed_and_only_it_draws_others(folders: dict[str, Path], llama: Any) -> None:
    texts = [
        next(iter(answers(engine(folders["llama"], llama), asked(**DRAWN, **seed)).values())).text
        for seed in ({}, {}, {"seed": 1}, {"seed": 2})
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_a_first_token_is_drawn_from_the_models_probabilities(folders: dict[str, Path], llama: Any) -> None:
    from scipy import stats

    count = 600
    found = answers(engine(folders["llama"], llama), asked(temperature=1.5, samples=count, max_new_tokens=1))
    seen = Counter(sample.text for sample in next(iter(found.values())).samples)
    with torch.inference_mode():
        logits = llama.model(torch.tensor([llama.tokenizer.encode("ab")])).logits[0, -1].double()
    chances: Counter[str] = Counter()  # by text: halves of characters look the same, special tokens are nothing
    for token, chance in enumerate((logits / 1.5).softmax(-1).tolist()):
        chances[llama.tokenizer.decode([token], skip_special_tokens=True)] += chance
    likely = [text for text, _ in chances.most_common(7)]
    wanted, found_counts = [chances[text] * count for text in likely], [seen[text] for text in likely]
    wanted, found_counts = [*wanted, count - sum(wanted)], [*found_counts, count - sum(found_counts)]
    assert stats.chisquare(found_counts, wanted).pvalue > 1e-4


# Reading in parts, and what a model may do that its traits do not say


def test_prompts_may_be_read_in_parts_of_any_size(folders: dict[str, Path], backend: Any, name: str) -> None:
    if backend.why_plain:
        pytest.skip("plain batches are generate's own")
    wanted = answers(engine(folders[name], backend), requests())
    rows = [
        GenerateRow(backend.tokenizer.encode(r.prompt), r.max_new_tokens, r.stop, request=k)
        for k, r in requests().items()
    ]
    for size in (1, 7, 40):
        generation = backend.generation(Limit(rows=4))
        join = generation.batch.join
        generation.batch.join = lambda rows, tokens=None, join=join, size=size: join(rows, size)
        found = {row.request: answer.text for done in generation.results(rows) for row, answer in done}
        assert found == {key: prediction.text for key, prediction in wanted.items()}


def test_the_kv_cache_grows_with_the_rows_and_ends_at_their_limit(folders: dict[str, Path]) -> None:
    from shardmark.engine.transformers import continuous_batch

    backend = tiny_models.load_backend(tiny_models.random_model(folders["llama"].parent / "roomy", window=1024))
    assert backend.why_plain is None
    rows = [GenerateRow([1, 2 + n], length, []) for n, length in enumerate((3, 300, 300))]
    generation, sizes = backend.generation(Limit()), []
    step = generation.batch.decode_step

    def counted_step() -> torch.Tensor:
        logits = step()
        sizes.append(generation.batch.capacity)
        assert max(len(row.sequence) for row in generation.batch.rows) <= sizes[-1] <= 302
        return logits

    generation.batch.decode_step = counted_step
    backend.ends.clear()
    found = {row.inputs[1]: answer for done in generation.results(rows) for row, answer in done}
    assert [found[2 + n].tokens for n in range(3)] == [3, 300, 300]
    assert sizes[0] == 2 + continuous_batch.LEAST_GROWTH
    assert 3 <= len(set(sizes)) <= 6
    alone = {
        row.inputs[1]: answer
        for row in rows
        for done in backend.generation(Limit(rows=1)).results([row])
        for _, answer in done
    }
    assert found == alone


def test_a_model_that_attends_otherwise_than_it_says_is_found_out(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = tiny_models.load_backend(folders["llama"])
    wanted = answers(engine(folders["llama"], backend), requests())
    body = type(backend.model.base_model)
    forward = body.forward

    def shifted(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)  # it counts positions by itself

    other = tiny_models.load_backend(folders["llama"])
    monkeypatch.setattr(body, "forward", shifted)
    with caplog.at_level(logging.WARNING):
        assert "a trial" in (other.why_plain or "")
    monkeypatch.setattr(body, "forward", forward)
    assert answers(engine(folders["llama"], other), requests()) == wanted


def test_masks_that_only_long_texts_would_show_are_found_out(tmp_path: Path) -> None:
    backend = tiny_models.load_backend(tiny_models.random_model(tmp_path, "doge"))
    assert "its layers make masks of their own" in (backend.why_plain or "")


def test_rows_share_no_batch_where_rotary_embeddings_move(folders: dict[str, Path]) -> None:
    backend = tiny_models.load_backend(folders["llama"])
    backend.model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert backend.why_plain == "its rotary embeddings change with the longest row"
    assert backend.generation(Limit(rows=8)).limit.rows == 1


def test_the_model_attends_as_before_afterwards(folders: dict[str, Path], llama: Any) -> None:
    from shardmark.engine.transformers.continuous_attention import ATTENTION

    before = llama.model.config._attn_implementation
    row = GenerateRow([1, 10**6], 2, [])
    with pytest.raises(IndexError):  # no such token
        list(llama.generation(Limit()).results([row]))
    assert llama.model.config._attn_implementation == before != ATTENTION
