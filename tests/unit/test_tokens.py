"""Contexts and continuations become tokens by the rules of lm-evaluation-harness."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from shardmark.engine.tokens import Alone, ScoredRow, encode, encode_pair, fit_window, prefix_token, rolling_windows

tokens = st.lists(st.integers(0, 99), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_models.save_tokenizer(tmp_path_factory.mktemp("bos"))


@pytest.fixture(scope="module")
def without_bos(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_models.save_tokenizer(tmp_path_factory.mktemp("eos"), bos=False)


def bare(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def test_the_context_begins_with_bos_and_the_continuation_does_not(with_bos: Any) -> None:
    context, continuation = encode_pair(with_bos, "Q:", " yes")
    assert context == [with_bos.bos_token_id, *bare(with_bos, "Q:")]
    assert continuation == bare(with_bos, " yes")


def test_a_text_that_begins_with_bos_gets_no_other(with_bos: Any) -> None:
    context, continuation = encode_pair(with_bos, "<bos>Q:", " yes")
    assert (context, continuation) == encode_pair(with_bos, "Q:", " yes")
    assert encode(with_bos, "<bos><bos>Q") == bare(with_bos, "<bos><bos>Q")


def test_white_space_at_the_contexts_end_moves_to_the_continuation(with_bos: Any) -> None:
    assert encode_pair(with_bos, "Q: \n", "yes") == encode_pair(with_bos, "Q:", " \nyes")


def test_a_token_over_the_border_counts_as_both_texts_tokenized_together(with_bos: Any) -> None:
    abc = tiny_models.token_id(with_bos, "abc")
    context, continuation = encode_pair(with_bos, "xa", "bcd")
    assert context == [with_bos.bos_token_id, *bare(with_bos, "xa")]
    assert [*bare(with_bos, "x"), abc, *bare(with_bos, "d")] == bare(with_bos, "xabcd")
    assert continuation == bare(with_bos, "d")


@pytest.mark.parametrize(("context", "alone"), [("xa", "bc"), ("x \na", "bc"), ("EN", "D"), ("x\n", "Q")])
def test_a_continuation_that_melts_into_the_context_is_tokenized_alone(with_bos: Any, context: str, alone: str) -> None:
    head, tail = encode_pair(with_bos, context, alone)
    melts = context == context.rstrip()  # else its white space is the continuation's, too
    assert head == [with_bos.bos_token_id, *bare(with_bos, context.rstrip())]
    assert tail == bare(with_bos, alone if melts else f"\n{alone}")
    assert isinstance(tail, Alone) == melts
    assert fit_window(head, tail, 64).alone == melts


def test_only_what_melts_is_tokenized_alone(with_bos: Any) -> None:
    assert not isinstance(encode_pair(with_bos, "xa", "bcd")[1], Alone)
    assert not isinstance(encode_pair(with_bos, "", "bc")[1], Alone)


def test_a_tokenizer_that_appends_eos_whatever_it_is_told_loses_it(without_bos: Any) -> None:
    class Appending:
        bos_token = bos_token_id = None
        eos_token_id = without_bos.eos_token_id

        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return [*bare(without_bos, text), self.eos_token_id]

    tokenizer = Appending()
    assert encode(tokenizer, "yes") == bare(without_bos, "yes")
    assert encode(tokenizer, "yes", add_special_tokens=False) == bare(without_bos, "yes")
    assert encode_pair(tokenizer, "Q:", " yes") == (bare(without_bos, "Q:"), bare(without_bos, " yes"))
    assert encode_pair(tokenizer, "", "yes") == ([tokenizer.eos_token_id], bare(without_bos, "yes"))


@pytest.mark.parametrize("context", ["", " ", "\n \t"])
def test_an_empty_context_is_bos(with_bos: Any, context: str) -> None:
    assert encode_pair(with_bos, context, "yes") == ([with_bos.bos_token_id], bare(with_bos, context + "yes"))


def test_an_empty_context_is_eos_without_bos(without_bos: Any) -> None:
    assert encode_pair(without_bos, "", "yes") == ([without_bos.eos_token_id], bare(without_bos, "yes"))


def test_a_continuation_that_begins_with_the_prefix_token_brings_its_own_context(with_bos: Any) -> None:
    assert encode_pair(with_bos, "", "<bos>yes") == ([with_bos.bos_token_id], bare(with_bos, "yes"))


def test_without_bos_and_eos_an_empty_context_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_models.save_tokenizer(tmp_path, bos=False, eos=False)
    with pytest.raises(ValueError, match="neither a BOS nor an EOS"):
        encode_pair(tokenizer, "", "yes")
    assert encode_pair(tokenizer, "Q:", " yes") == (bare(tokenizer, "Q:"), bare(tokenizer, " yes"))


def test_a_prefix_token_with_id_0_is_one() -> None:
    class Tokenizer:
        bos_token_id = 0
        eos_token_id = 7

    assert prefix_token(Tokenizer()) == 0


def test_a_context_of_which_the_tokenizer_keeps_nothing_is_the_prefix_token(without_bos: Any) -> None:
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    forgetful = PreTrainedTokenizerFast(tokenizer_object=without_bos.backend_tokenizer, eos_token="<eos>")
    forgetful.backend_tokenizer.normalizer = normalizers.Replace("?", "")
    assert encode_pair(forgetful, "???", "yes") == ([forgetful.eos_token_id], bare(forgetful, "yes"))


@pytest.mark.parametrize("half", ["first", "second"])
def test_half_an_emoji_is_encoded_as_the_replacement_character(with_bos: Any, half: str) -> None:
    half = {"first": "\ud83d", "second": "\ude00"}[half]
    assert encode(with_bos, f"smile {half}") == encode(with_bos, "smile \ufffd")
    assert encode_pair(with_bos, f"a{half}", half) == encode_pair(with_bos, "a\ufffd", "\ufffd")


def test_a_whole_emoji_stays(with_bos: Any) -> None:
    assert with_bos.decode(encode(with_bos, "😀"), skip_special_tokens=True) == "😀"


@given(tokens, tokens, st.integers(1, 20))
def test_the_input_is_the_rightmost_window_without_the_last_token(
    context: list[int], continuation: list[int], window: int
) -> None:
    row = fit_window(context, continuation, window)
    whole = context + continuation
    assert row.inputs == whole[-(window + 1) :][:-1]
    assert row.cut == len(whole) - len(row.inputs) - 1
    assert row.scored == continuation[-len(row.scored) :]
    assert len(row.scored) == min(len(continuation), len(row.inputs))
    # Each scored token is what follows its position in the input.
    assert [*row.inputs, whole[-1]][-len(row.scored) :] == row.scored


def test_what_fits_exactly_is_not_cut() -> None:
    assert fit_window([1, 2], [3, 4], 3) == ScoredRow([1, 2, 3], [3, 4], 0)
    assert fit_window([1, 2], [3, 4], 2) == ScoredRow([2, 3], [3, 4], 1)
    assert fit_window([1, 2], [3, 4], 1) == ScoredRow([3], [4], 2)


@given(tokens.filter(len), st.integers(1, 20))
def test_rolling_windows_score_each_token_once_with_as_much_context_as_lm_eval_gives(
    text: list[int], window: int
) -> None:
    rows = rolling_windows(-1, text, window)
    assert [token for row in rows for token in row.scored] == text
    assert rows[0].inputs == [-1, *text[:window][:-1]]
    # Each scored token is what follows its position in the input.
    assert all(row.inputs[-len(row.scored) :][1:] == row.scored[:-1] for row in rows)
    assert all(len(row.inputs) == window for row in rows[:-1] or rows[1:])
    assert all(len(row.inputs) == len(row.scored) for row in rows[:-1])
    end = len(text) - 1
    assert len(rows) == 1 or rows[-1].inputs == text[end - window : end]


def test_a_text_without_tokens_has_no_windows() -> None:
    assert rolling_windows(0, [], 4) == []
