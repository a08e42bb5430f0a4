"""Text for pages: nothing in it breaks a page, and nothing of it is lost."""

from hypothesis import given
from hypothesis import strategies as st

from shardmark.report.text import broken, clean, name_parts, shortened


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


def test_names_break_at_separators_but_not_in_version_numbers() -> None:
    assert name_parts("qwen2.5-0.5b_it.q4") == ["qwen2.5-", "0.5b_", "it.", "q4"]
    assert broken("demo_reading_comprehension") == ["demo_reading_", "comprehension"]
    assert broken("alongnamewithoutanyseparator") == ["alongnamewithoutanyseparator"]
    assert broken("_") == ["_"]


def test_a_shortened_name_keeps_both_ends() -> None:
    assert shortened("very_long_model_name-4b-instruct", 13) == "very_l…struct"
    assert shortened("short", 13) == "short"
