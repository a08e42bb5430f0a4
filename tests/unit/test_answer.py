"""The engine answers every request once, in whatever batches, and names the request that cannot be answered."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import asked
import tiny_models
from asked import by_id, choice, rolling
from shardmark.engine.tokens import ScoredRow
from shardmark.errors import UserError
from shardmark.records.prediction import Scored
from shardmark.records.request import GenerateRequest
from shardmark.tasks.frames import as_sent
from shardmark.tasks.requests import request_id

NEAR = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def backend(folder: Path) -> Any:
    return tiny_models.load_backend(folder)


class Cramped:
    """A backend that runs out of memory when it generates with more than so many tokens in a batch, with padding."""

    def __init__(self, backend: Any, tokens: int) -> None:
        self.backend = backend
        self.tokens = tokens
        self.done: list[Any] = []
        self.freed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def free(self) -> None:
        self.freed += 1

    def _check(self, tokens: int) -> None:
        if tokens > self.tokens:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def score(self, rows: Any) -> Any:
        from shardmark.engine.transformers.scoring import Scorer

        return Scorer(self).results(rows)

    def generate(self, rows: Any) -> Any:
        return type(self.backend).generate(self, rows)

    def generation(self, limit: Any, greedy_tokens: int) -> Any:
        generation = self.backend.generation(limit, greedy_tokens)
        generation.batch, generation.free = CrampedBatch(generation.batch, self), self.free
        return generation


class CrampedBatch:
    """A batch of rows on that device: it holds all tokens that they may come to have, padded to the longest."""

    def __init__(self, batch: Any, memory: Cramped) -> None:
        self.batch, self.memory = batch, memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batch, name)

    def _check(self, rows: Sequence[Any]) -> None:
        self.memory._check(len(rows) * max((row.own_length for row in rows), default=0) + self.batch.shared_tokens)

    def join(self, rows: Sequence[Any], tokens: int | None = None) -> None:
        self._check([*self.batch.rows, *rows])
        self.batch.join(rows, tokens)

    def decode_step(self) -> Any:
        self._check(self.batch.rows)
        return self.batch.decode_step()

    def leave(self, gone: Sequence[int]) -> None:
        self.memory.done += [self.batch.rows[n] for n in gone]
        self.batch.leave(gone)


def engine(folder: Path, backend: Any, **settings: Any) -> Any:
    return tiny_models.local_backend(folder, backend, **settings)


def answers(engine: Any, requests: Sequence[Any]) -> dict[str, Any]:
    """The predictions by request id, each made once."""
    made = [p for predictions in engine.answer(by_id(requests)) for p in predictions]
    assert Counter(p.id for p in made) == Counter(by_id(requests).keys())
    return {p.id: p for p in made}


def answer(engine: Any, request: Any) -> Any:
    (prediction,) = answers(engine, [request]).values()
    return prediction


def generate(prompt: str, new: int = 4, stop: Sequence[str] = ()) -> GenerateRequest:
    return asked.generate(prompt, new, stop)


CHOICES = [
    choice(("Q: 1+1?\nA:", " two"), ("Q: 1+1?\nA:", " a dozen eggs"), ("Q: 1+1?\nA:", " 3")),
    choice(("", "The sky is blue."), ("", "The sky is a kind of cheese.")),
    choice(("one", " a"), ("a much longer context than the other one", " b")),
    choice(("abab", "cd")),
]
GENERATIONS = [
    generate("ab", 4),
    generate("a longer prompt", 4),
    generate("x", 7),
    generate("y", 4, ["e"]),
    generate("z"),
]
REQUESTS = [*CHOICES, *GENERATIONS]


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for key, prediction in wanted.items():
        if isinstance(prediction, Scored):
            assert found[key].logprobs == pytest.approx(prediction.logprobs, abs=NEAR)
            assert replace(found[key], logprobs=prediction.logprobs) == prediction
        else:
            assert found[key] == prediction


def test_a_choice_has_the_log_likelihood_of_each_of_its_pairs(folder: Path, backend: Any) -> None:
    from shardmark.engine.tokens import encode_pair, fit_window

    request = CHOICES[0]
    rows = [fit_window(*encode_pair(backend.tokenizer, *pair), backend.window) for pair in request.pairs]
    prediction = answer(engine(folder, backend), request)
    wanted = [tiny_models.plain_score(backend.model, row) for row in rows]
    assert prediction.logprobs == pytest.approx([value for value, _ in wanted], abs=NEAR)
    assert prediction.greedy == [greedy for _, greedy in wanted]
    assert prediction.tokens == [4, 13, 2]
    assert prediction.cut == 0


def test_the_greedy_continuation_is_the_one_that_is_generated(tmp_path: Path) -> None:
    folder = tiny_models.chain_model(tmp_path, "1xyz")
    prediction = answer(engine(folder, tiny_models.load_backend(folder)), choice(("1", "xy"), ("1", "xz"), ("1", "x")))
    assert prediction.greedy == [True, False, True]


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 3}, {"batch_padding": False}])
def test_predictions_do_not_depend_on_batches_or_order(folder: Path, backend: Any, settings: dict[str, Any]) -> None:
    wanted = answers(engine(folder, backend), REQUESTS)
    assert_same(answers(engine(folder, backend, **settings), REQUESTS[::-1]), wanted)


def test_an_answer_says_that_its_prompt_has_opened_a_thought(folder: Path, backend: Any) -> None:
    assert answer(engine(folder, backend), generate("ab<think>\n")).opened == "<think>"
    assert answer(engine(folder, backend), generate("ab")).opened == ""


def test_generations_keep_to_their_own_length_and_stops(folder: Path, backend: Any) -> None:
    free = answer(engine(folder, backend), generate("ab", 12))
    assert (free.end, free.tokens) == ("length", 12)
    stop = free.text[3]
    found = answers(engine(folder, backend), [generate("ab", 12), generate("ab", 5), generate("ab", 12, [stop])])
    whole, short, stopped = (found[request_id(generate("ab", *more))] for more in [(12,), (5,), (12, [stop])])
    assert whole == free
    assert (short.end, short.tokens) == ("length", 5)
    assert stopped.text == free.text.partition(stop)[0]
    assert stopped.end == "stop"


def test_the_model_may_write_less_than_the_data_set_asks_for(folder: Path, backend: Any) -> None:
    assert answer(engine(folder, backend, max_out_len=3), generate("ab", 12)).tokens == 3
    assert answer(engine(folder, backend, max_out_len=30), generate("ab", 12)).tokens == 12


def test_predictions_come_as_soon_as_their_last_pair_is_done(folder: Path, backend: Any) -> None:
    lists = list(engine(folder, backend, batch_size=1).answer(by_id(CHOICES)))
    assert len(lists) == sum(len(request.pairs) for request in CHOICES)
    assert [len(done) for done in lists].count(1) == len(CHOICES)


def test_no_requests_need_no_answers(folder: Path, backend: Any) -> None:
    assert list(engine(folder, backend).answer({})) == []


# What does not fit the window


def test_a_prompt_that_is_too_long_is_cut_on_the_left_and_counted(folder: Path, backend: Any) -> None:
    from shardmark.engine.batches import Limit
    from shardmark.engine.generation import Answer, GenerateRow

    long = "0123456789" * 12  # and BOS
    cut = answer(engine(folder, backend), generate(long, 4))
    kept = long[-(tiny_models.WINDOW - 4) :]
    assert cut.cut == len(long) + 1 - len(kept)
    row = GenerateRow(backend.tokenizer.encode(kept, add_special_tokens=False), 4, [])
    assert [[(row, Answer(cut.text, cut.tokens, cut.end))]] == list(backend.generation(Limit()).results([row]))


def test_a_prompt_that_just_fits_is_not_cut(folder: Path, backend: Any) -> None:
    just = "x" * (tiny_models.WINDOW - 4 - 1)  # and BOS
    assert answer(engine(folder, backend), generate(just, 4)).cut == 0
    assert answer(engine(folder, backend), generate(just + "x", 4)).cut == 1


def test_the_longest_cut_of_a_choice_is_counted(folder: Path, backend: Any) -> None:
    just = "x" * (tiny_models.WINDOW - 3)  # BOS, these and the first three of four
    assert answer(engine(folder, backend), choice(("a", " b"), (just, " one"))).cut == 1
    assert answer(engine(folder, backend), choice(("a", " b"), (just, " on"))).cut == 0


def test_a_continuation_longer_than_the_window_is_scored_as_far_as_it_fits(folder: Path, backend: Any) -> None:
    prediction = answer(engine(folder, backend), choice(("", "y" * 100)))
    assert prediction.tokens == [tiny_models.WINDOW]
    assert prediction.cut == 101 - tiny_models.WINDOW - 1


# What cannot be answered names the model's file, the model and the request


def assert_refused(engine: Any, request: Any, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        answers(engine, [generate("fine"), choice(("fine", " too")), request])
    assert f"config/models/tiny.yaml: model tiny, request {request_id(request)[:16]}: " in str(caught.value)


def test_new_tokens_that_fill_the_window_are_refused(folder: Path, backend: Any) -> None:
    assert_refused(engine(folder, backend), generate("ab", 64), "64 new tokens leave no room .* window of 64")


def test_a_choice_without_tokens_is_refused(folder: Path, backend: Any) -> None:
    assert_refused(engine(folder, backend), choice(("x", "y"), ("Q: a", "")), "the choice '' has no token")


def test_a_choice_that_the_tokenizer_drops_blames_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    from tokenizers import normalizers

    backend = tiny_models.load_backend(folder)
    backend.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("?", "")
    assert_refused(engine(folder, backend), choice(("x", "?")), r"the choice '\?' has no token of the model's token")


def test_a_choice_that_melts_into_the_prompt_is_tokenized_alone_and_counted(folder: Path, backend: Any) -> None:
    """`abc` is one token, so `bc` leaves nothing after `xa`."""
    melting, plain = choice(("xa", "bc"), ("xa", "d"), ("x\na", "bc")), choice(("x", "d"))
    made = {p.id: p for done in engine(folder, backend).answer({"m": melting, "p": plain}) for p in done}
    assert made["m"].alone == 2
    assert made["p"].alone == 0
    tokens = [backend.tokenizer.encode(text, add_special_tokens=False) for text in ("bc", "d", "bc")]
    assert made["m"].tokens == [len(part) for part in tokens]
    row = ScoredRow([*backend.tokenizer.encode("xa"), *tokens[0][:-1]], tokens[0], 0)
    assert made["m"].logprobs[0] == pytest.approx(tiny_models.plain_score(backend.model, row)[0], abs=1e-4)


def appending(tokenizer: Any, *after: str) -> None:
    """Let a tokenizer put tokens after each text, as BERT's and some Llamas' do."""
    from tokenizers import processors

    special = [(text, tokenizer.convert_tokens_to_ids(text)) for text in ("<bos>", *after)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(["<bos>", "$A", *after]), special_tokens=special
    )


@pytest.mark.parametrize("after", [("<eos>",), ("<pad>",), ("<eos>", "<pad>")], ids=str)
def test_what_a_tokenizer_appends_is_neither_read_nor_scored(tmp_path: Path, after: tuple[str, ...]) -> None:
    plain = tiny_models.random_model(tmp_path / "plain")
    other = shutil.copytree(plain, tmp_path / "other")
    tokenizer = tiny_models.load_backend(other).tokenizer
    appending(tokenizer, *after)
    tokenizer.save_pretrained(other)
    backend = tiny_models.load_backend(other)
    assert backend.tokenizer.encode("a")[-1] == backend.tokenizer.convert_tokens_to_ids(after[-1])
    requests = {
        "choice": choice(("Q: A:", " a"), ("Q: A:", " b"), ("", "a"), (" ", "a"), ("xa", "bc")),
        "prompt": generate("Q: ab", 6),
        "nothing": generate("", 6),
        "text": rolling("a long text " * 12),
        "its own": choice(("Q: a<eos>", "b<eos>")),
    }
    wanted = {p.id: p for done in engine(plain, tiny_models.load_backend(plain)).answer(requests) for p in done}
    found = {p.id: p for done in engine(other, backend).answer(requests) for p in done}
    assert found == wanted
    assert len(set(found["choice"].logprobs)) > 1


def test_an_empty_context_needs_a_bos_or_eos_token(tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path, bos=False, eos=False)
    backend = tiny_models.load_backend(folder)
    assert_refused(engine(folder, backend), choice(("", "yes")), "neither a BOS nor an EOS")
    assert_refused(engine(folder, backend), generate(""), "neither a BOS nor an EOS")


def test_an_empty_prompt_is_the_prefix_token_alone(tmp_path: Path) -> None:
    from shardmark.engine.batches import Limit
    from shardmark.engine.generation import Answer, GenerateRow

    folder = tiny_models.random_model(tmp_path, bos=False)
    backend = tiny_models.load_backend(folder)
    prediction = answer(engine(folder, backend), generate(""))
    row = GenerateRow([backend.tokenizer.eos_token_id], 4, [])
    answer_ = Answer(prediction.text, prediction.tokens, prediction.end)
    assert [[(row, answer_)]] == list(backend.generation(Limit()).results([row]))


@pytest.mark.parametrize("request_", [choice(("1", "!x"), ("1", "!y")), generate("1!", 3), generate("1", 3)])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, request_: dict[str, Any]) -> None:
    folder = tiny_models.chain_model(tmp_path, "1!")
    backend = tiny_models.load_backend(folder)
    backend.model.model.embed_tokens.weight.data[tiny_models.token_id(backend.tokenizer, "!")] = float("nan")
    assert_refused(engine(folder, backend), request_, r"(nan|not a number)\n    fix: try dtype: float32")


@pytest.mark.parametrize(("request_", "length"), [(choice(("a" * 40, " b")), 42), (generate("a" * 40, 4), 45)])
def test_out_of_memory_with_one_request_alone_names_it_and_its_length(
    folder: Path, backend: Any, request_: dict[str, Any], length: int
) -> None:
    with tiny_models.cramped(backend.model, length - 1):
        refusing = engine(folder, Cramped(backend, length - 1))
        assert_refused(refusing, request_, rf"out of memory with this request alone \({length} tokens\)")
    with tiny_models.cramped(backend.model, length):
        assert answer(engine(folder, Cramped(backend, length)), request_)


@pytest.mark.parametrize("request_", [choice(("a", " b")), generate("a", 4)])
def test_out_of_memory_before_the_first_request_names_the_model(folder: Path, request_: dict[str, Any]) -> None:
    backend = tiny_models.load_backend(folder)
    with tiny_models.cramped(backend.model, 1), pytest.raises(UserError) as caught:
        answers(engine(folder, backend), [request_])
    assert str(caught.value).startswith("1 problem found")
    assert "config/models/tiny.yaml: model tiny: out of memory apart from its requests: " in str(caught.value)


# Out of memory in mid-run


@pytest.mark.parametrize("tokens", [50, 60, 80, 100])
def test_running_out_of_memory_loses_and_repeats_nothing(folder: Path, backend: Any, tokens: int) -> None:
    cramped = Cramped(backend, tokens)
    wanted = answers(engine(folder, backend), REQUESTS)
    with tiny_models.cramped(backend.model, tokens) as sizes:
        assert_same(answers(engine(folder, cramped), REQUESTS), wanted)
    assert max(sizes) > tokens
    assert len(cramped.done) == len(GENERATIONS)
    assert cramped.freed > 0


def test_memory_that_runs_out_later_halves_from_there_on(folder: Path, backend: Any) -> None:
    cramped = Cramped(backend, 10**6)
    requests = [generate(f"prompt {n}", 4) for n in range(8)]
    run = engine(folder, cramped, batch_size=4).answer(by_id(requests))
    first = next(run)
    cramped.tokens = 30
    rest = list(run)
    assert len(first) == 4
    assert [len(predictions) for predictions in rest] == [2, 2]
    assert Counter(p.id for predictions in [first, *rest] for p in predictions) == Counter(by_id(requests).keys())


def test_other_errors_are_not_swallowed(folder: Path, backend: Any) -> None:
    class Crashing(Cramped):
        def _check(self, tokens: int) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(engine(folder, Crashing(backend, 0)).answer(by_id(GENERATIONS)))


def test_a_text_longer_than_the_window_is_scored_in_windows(folder: Path, backend: Any) -> None:
    from shardmark.engine.tokens import rolling_windows

    text = "the quick brown fox jumps over the lazy dog. " * 4
    tokens = backend.tokenizer.encode(text)
    rows = rolling_windows(backend.tokenizer.bos_token_id, tokens, backend.window)
    assert len(rows) > 2
    prediction = answer(engine(folder, backend), rolling(text))
    wanted = [tiny_models.plain_score(backend.model, row) for row in rows]
    assert prediction.logprobs == [pytest.approx(sum(value for value, _ in wanted), abs=10 * NEAR)]
    assert (prediction.tokens, prediction.greedy, prediction.cut) == ([len(tokens)], [False], 0)


def test_a_text_that_fits_the_window_is_scored_as_what_follows_nothing(folder: Path, backend: Any) -> None:
    text, bos = (
        "the lazy dog.",
        backend.tokenizer.bos_token,
    )  # which the tokenizer puts before a text, not before a choice
    whole, alone = (
        answer(engine(folder, backend), request) for request in (rolling(text), choice(("", bos + bos + text)))
    )
    assert whole.logprobs == pytest.approx(alone.logprobs, abs=NEAR)
    assert (whole.tokens, whole.greedy) == (alone.tokens, alone.greedy)


CHAT = asked.said(("user", "1+1?"))
SAID = {"begin": "", "round": {"user": {"begin": "U: ", "end": "\n"}, "assistant": {"begin": "A: ", "end": "\n"}}}


def test_a_chat_is_answered_as_the_text_it_becomes(folder: Path, backend: Any) -> None:
    model = engine(folder, backend, meta_template=SAID)
    chat, text = asked.chat(("user", "1+1?"), new=6), generate("U: 1+1?\nA: ", 6)
    found = answer(model, chat)
    assert as_sent(chat.context, found) == text.prompt
    assert replace(found, id="", sent=()) == replace(answer(model, text), id="")
    choices = answer(model, choice((CHAT, "2"), (CHAT, "3")))
    assert as_sent(CHAT, choices, 1) == "U: 1+1?\nA: "
    texts = answer(model, choice(("U: 1+1?\nA: ", "2"), ("U: 1+1?\nA: ", "3")))
    assert choices.logprobs == pytest.approx(texts.logprobs, abs=NEAR)


def test_a_chat_without_a_template_is_told_with_the_fix(folder: Path, backend: Any) -> None:
    with pytest.raises(UserError, match="no chat template") as caught:
        answer(engine(folder, backend), choice((CHAT, "2"), (CHAT, "3")))
    assert "add meta_template" in str(caught.value)
