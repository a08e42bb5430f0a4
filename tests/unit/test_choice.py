"""Which choice a model prefers."""

from typing import get_args

import pytest

from shardmark.config.dataset import Scoring
from shardmark.scoring.choice import is_tied, preferred

LOGPROBS = [-4.0, -5.0, -9.0]
TOKENS = [1, 2, 3]
CHOICES = ["no", "maybe", "certainly not"]


@pytest.mark.parametrize(
    ("scoring", "best"),
    [
        ("sum", 0),  # -4, -5, -9
        ("token", 1),  # -4, -2.5, -3
        ("perplexity", 1),
        ("char", 2),  # -2, -1, -0.69
        ("byte", 2),
    ],
)
def test_log_likelihoods_are_divided_by_the_length_that_scoring_names(scoring: str, best: int) -> None:
    assert preferred(scoring, LOGPROBS, TOKENS, CHOICES) == best


@pytest.mark.parametrize(
    ("scoring", "logprobs", "tied"),
    [
        ("sum", [-4.0, -4.0, -9.0], True),
        ("sum", [-4.0, -9.0, -9.0], False),  # not the best
        ("sum", [-4.0, -4.0 - 1e-12, -9.0], False),  # not exactly
        ("token", [-4.0, -8.0, -13.0], True),  # -4, -4, -4.3
        ("char", [-4.0, -4.0, -40.0], False),
        ("char", [-4.0, -10.0, -40.0], True),
    ],
)
def test_a_tie_is_an_exact_one_of_the_best_by_what_is_compared(scoring: str, logprobs: list[float], tied: bool) -> None:
    assert is_tied(scoring, logprobs, TOKENS, CHOICES) == tied


def test_characters_are_not_bytes() -> None:
    assert preferred("char", [-4.0, -5.0], [1, 1], ["für", "four"]) == 1  # -1.33, -1.25
    assert preferred("byte", [-4.0, -5.0], [1, 1], ["für", "four"]) == 0  # -1, -1.25


def test_the_lowest_perplexity_is_the_highest_mean() -> None:
    assert preferred("perplexity", [-30.0, -31.0], [10, 11], ["", ""]) == 1  # -3, -2.82


@pytest.mark.parametrize("scoring", get_args(Scoring))
def test_of_equals_the_first_is_taken(scoring: str) -> None:
    assert preferred(scoring, [-3.0, -2.0, -2.0], [2, 2, 2], ["abc", "abd", "abe"]) == 1


@pytest.mark.parametrize("scoring", ["char", "byte"])
def test_an_empty_choice_has_a_length_of_one(scoring: str) -> None:
    assert preferred(scoring, [-3.0, -4.0], [1, 1], ["", "x"]) == 0


def test_half_an_emoji_has_a_length() -> None:
    assert preferred("byte", [-3.0, -3.5], [1, 1], ["\ud83d", "x"]) == 0
