"""Text for pages: nothing in it breaks a page, and nothing of it is lost."""

from hypothesis import given
from hypothesis import strategies as st

from shardmark.report.text import anchors, broken, clean, fold, name_parts, shortened, whitespace_pieces


def test_unpaired_surrogates_become_the_replacement_character() -> None:
    assert clean("a\ud800b") == "a\ufffdb"


def test_a_surrogate_pair_is_joined() -> None:
    assert clean("\ud83d\ude00") == "😀"


def test_control_characters_become_visible_but_tab_and_newline_stay() -> None:
    assert clean("a\0\x1b\r\n\tb\x7f") == "a␀␛␍\n\tb␡"


def test_cleaning_reaches_keys_and_values_at_any_depth() -> None:
    assert clean({"\0": ["\0", {"k": "\ufffe"}], "n": 1.5}) == {"␀": ["␀", {"k": "\ufffd"}], "n": 1.5}


@given(st.text(st.characters(exclude_categories=())))
def test_cleaned_text_can_be_written_as_utf8(text: str) -> None:
    clean(text).encode("utf-8")


def test_whitespace_at_the_ends_of_lines_and_runs_of_it_are_marked() -> None:
    kinds = [(piece.kind, piece.text) for piece in whitespace_pieces(" a b  c\td \n")]
    assert kinds == [
        *[("space", " "), ("text", "a b"), ("space", "  "), ("text", "c"), ("tab", "\t"), ("text", "d")],
        *[("space", " "), ("newline", "\n")],
    ]


@given(st.text(" \n\tab"))
def test_marked_pieces_join_to_the_text(text: str) -> None:
    assert "".join(piece.text for piece in whitespace_pieces(text)) == text


@given(st.text(" \nab", max_size=400))
def test_a_folded_prompt_loses_nothing(prompt: str) -> None:
    assert "".join(fold(prompt, lines=3, width=10)) == prompt


def test_a_short_prompt_is_not_folded() -> None:
    assert fold("Q: 1 + 1\nA:").hidden == ""


def test_folding_keeps_the_end_of_a_prompt_in_sight() -> None:
    prompt = "".join(f"line {number}\n" for number in range(40)) + "Answer:"
    assert fold(prompt, lines=3).shown == "line 38\nline 39\nAnswer:"


def test_a_paragraph_longer_than_the_limit_is_cut_at_a_space() -> None:
    folded = fold("word " * 500 + "\nAnswer:", lines=4, width=50)
    assert folded.shown.startswith("word word")
    assert 100 < len(folded.shown) < 200


def test_anchors_are_safe_and_distinct_even_for_equal_ids() -> None:
    assert anchors(["a/1 é", "a/1 é", "<b>", ""]) == ["sample-a-1", "sample-a-1--2", "sample-b", "sample-"]


def test_names_break_at_separators_but_not_in_version_numbers() -> None:
    assert name_parts("qwen2.5-0.5b_it.q4") == ["qwen2.5-", "0.5b_", "it.", "q4"]
    assert broken("demo_reading_comprehension") == ["demo_reading_", "comprehension"]
    assert broken("alongnamewithoutanyseparator") == ["alongnamewithoutanyseparator"]
    assert broken("_") == ["_"]


def test_a_shortened_name_keeps_both_ends() -> None:
    assert shortened("very_long_model_name-4b-instruct", 13) == "very_l…struct"
    assert shortened("short", 13) == "short"
