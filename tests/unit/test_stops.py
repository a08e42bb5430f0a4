"""Stop strings are found at the token that completes them, however the text is cut into tokens."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from shardmark.engine.stops import StopFinder, TextStream, text_and_end

WORDS = ("a", "ab", "abc", "b", "\n", "\nQ", " ", "é", "→", "😀", "END", "e")


def sentence_piece() -> Any:
    """A tokenizer in the manner of SentencePiece: spaces are part of words, unknown characters become bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", "▁a", "a", "b", "▁b", "ab", "Q", "e", "▁END"]
    tokenizer = Tokenizer(
        models.BPE({"<unk>": 0} | {p: n + 1 for n, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="module", params=["bytes", "sentence_piece"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "sentence_piece":
        return sentence_piece()
    return tiny_models.save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def first_end(tokenizer: Any, tokens: list[int], stop: list[str]) -> int | None:
    """The number of tokens after which the whole text, decoded anew each time, first has a stop string."""
    texts = (tokenizer.decode(tokens[:n], skip_special_tokens=True) for n in range(1, len(tokens) + 1))
    return next((n for n, text in enumerate(texts, 1) if any(string in text for string in stop)), None)


def found_end(tokenizer: Any, tokens: list[int], stop: list[str]) -> int | None:
    finder = StopFinder(tokenizer, stop)
    return next((n for n, token in enumerate(tokens, 1) if finder.push(token)), None)


@given(data=st.data())
def test_any_cut_into_tokens_ends_where_the_whole_text_does(tokenizer: Any, data: st.DataObject) -> None:
    """Tokens are encoded word by word and byte by byte, so that characters and stop strings are cut anywhere."""
    words = data.draw(st.lists(st.sampled_from(WORDS), max_size=12))
    tokens = [token for word in words for token in pieces(tokenizer, word, data.draw(st.booleans()))]
    stop = data.draw(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("".join), max_size=3))
    assert found_end(tokenizer, tokens, stop) == first_end(tokenizer, tokens, stop)


def pieces(tokenizer: Any, word: str, whole: bool) -> list[int]:
    """A word's tokens: those it has by itself, or one for each of its bytes."""
    if whole:
        return list(tokenizer.encode(word, add_special_tokens=False))
    vocabulary = tokenizer.get_vocab()
    if "<0x00>" in vocabulary:
        return [vocabulary[f"<0x{byte:02X}>"] for byte in word.encode()]
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return [vocabulary[letter] for letter in level.pre_tokenize_str(word)[0][0]]


@given(st.lists(st.integers(0, 255), max_size=30))
def test_even_bytes_that_make_no_text_are_searched(tmp_path_factory: pytest.TempPathFactory, tokens: list[int]) -> None:
    tokenizer = tiny_models.save_tokenizer(tmp_path_factory.getbasetemp())
    stop = ["a", "é", "\n"]
    assert found_end(tokenizer, tokens, stop) == first_end(tokenizer, tokens, stop)


@given(words=st.lists(st.sampled_from(WORDS), max_size=20))
def test_the_pieces_of_a_stream_are_the_text(tokenizer: Any, words: list[str]) -> None:
    tokens = [token for word in words for token in pieces(tokenizer, word, whole=False)]
    stream = TextStream(tokenizer)
    assert "".join(stream.push(token)[0] for token in tokens) == tokenizer.decode(tokens, skip_special_tokens=True)


def test_a_stream_decodes_only_its_newest_tokens(tmp_path: Path) -> None:
    tokenizer = tiny_models.save_tokenizer(tmp_path)
    decoded: list[int] = []

    class Counting:
        def decode(self, tokens: list[int], **kwargs: Any) -> str:
            decoded.append(len(tokens))
            return str(tokenizer.decode(tokens, **kwargs))

    finder = StopFinder(Counting(), ["never"])
    assert not any(finder.push(token) for token in tokenizer.encode("a long text → é " * 30))
    assert max(decoded) <= 8


def test_special_tokens_do_not_hide_a_stop_string(tmp_path: Path) -> None:
    tokenizer = tiny_models.save_tokenizer(tmp_path)
    x, y = (tiny_models.token_id(tokenizer, text) for text in "xy")
    assert found_end(tokenizer, [x, *[tokenizer.bos_token_id] * 40, y], ["xy"]) == 42


@given(st.text("ab\n", max_size=20), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_the_text_ends_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    class Letters:
        def decode(self, tokens: list[int], **kwargs: Any) -> str:
            return "".join(map(chr, tokens))

    kept, stopped = text_and_end(Letters(), list(map(ord, text)), stop)
    assert stopped == any(string in text for string in stop)
    assert text.startswith(kept)
    assert not any(string in kept for string in stop)
    assert not stopped or any(text.startswith(string, len(kept)) for string in stop)
    assert all(a <= b for a, b in pairwise([len(kept), len(text)]))
