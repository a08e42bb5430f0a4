"""Tokens are drawn from the distribution that transformers' own filters leave, and only the row's seed moves them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shardmark.engine import sampling
from shardmark.engine.sampling import GREEDY, Sampling, choose, generator, probabilities

SIZE = 50
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 5, 49, 50, 80]),
    top_p=st.sampled_from([1.0, 0.999, 0.7, 0.1]),
)


def logits(seed: int, rows: int = 1, size: int = SIZE) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (rows, size)).astype(np.float32))


def reference(scores: torch.Tensor, one: Sampling) -> torch.Tensor:
    """transformers' filters, in the order in which generate applies them."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = TemperatureLogitsWarper(one.temperature)(None, scores.double())
    scores = TopKLogitsWarper(one.top_k)(None, scores) if one.top_k else scores
    scores = TopPLogitsWarper(one.top_p)(None, scores) if one.top_p < 1 else scores
    return scores.softmax(-1)


@given(st.lists(samplings, min_size=1, max_size=4), st.integers(0, 10**6))
def test_the_distribution_is_that_of_transformers(ones: list[Sampling], seed: int) -> None:
    scores = logits(seed, len(ones))
    found = probabilities(scores, ones)
    for n, one in enumerate(ones):
        assert torch.allclose(found[n] / found[n].sum(), reference(scores[n : n + 1], one)[0], atol=1e-9)


@pytest.mark.parametrize("top_p", [0.5, 0.9999])
def test_the_nucleus_may_be_wider_than_where_it_is_sought_first(monkeypatch: pytest.MonkeyPatch, top_p: float) -> None:
    monkeypatch.setattr(sampling, "NUCLEUS", 3)
    one = Sampling(temperature=2.0, top_p=top_p)
    found = probabilities(logits(1), [one])
    assert torch.allclose(found / found.sum(), reference(logits(1), one), atol=1e-9)


@pytest.mark.parametrize(
    "one", [Sampling(1.0), Sampling(0.7, top_k=6), Sampling(1.3, top_p=0.8), Sampling(2.0, 20, 0.9)]
)
def test_draws_follow_the_distribution(one: Sampling) -> None:
    count = 4000
    wanted = reference(logits(5), one)[0].numpy()
    numbers = [float(generator("a request", n).random()) for n in range(count)]
    tokens = choose(logits(5).expand(count, -1), [one] * count, numbers)
    seen = np.bincount(tokens.numpy(), minlength=SIZE)
    assert not seen[wanted == 0].any()
    often = wanted * count >= 5
    observed = [*seen[often], seen[~often].sum()]
    expected = [*wanted[often] * count, wanted[~often].sum() * count]
    if not expected[-1]:
        observed, expected = observed[:-1], expected[:-1]
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-4


def test_generators_are_uniform_and_differ_by_request_and_sample() -> None:
    numbers = [generator(f"request {n}", m).random() for n in range(300) for m in range(3)]
    assert scipy.stats.kstest(numbers, "uniform").pvalue > 1e-4
    assert len(set(numbers)) == 900
    assert generator("x", 1).random() == generator("x", 1).random()


def test_a_generator_is_the_same_on_every_machine() -> None:
    assert [round(float(generator("id", 0).random()), 12), round(float(generator("id", 1).random()), 12)] == PINNED


PINNED = [0.649731673802, 0.956974870574]


@settings(max_examples=30)
@given(st.lists(samplings | st.just(GREEDY), min_size=2, max_size=9), st.integers(0, 1000), st.randoms())
def test_batch_mates_and_order_do_not_matter(ones: list[Sampling], seed: int, draw: Any) -> None:
    scores = logits(seed, len(ones))
    numbers = [draw.random() for _ in ones]
    together = choose(scores, ones, numbers).tolist()
    order = draw.sample(range(len(ones)), len(ones))
    assert choose(scores[order], [ones[n] for n in order], [numbers[n] for n in order]).tolist() == [
        together[n] for n in order
    ]
    assert [int(choose(scores[n : n + 1], [one], [numbers[n]])[0]) for n, one in enumerate(ones)] == together


def test_rounding_errors_of_a_logit_move_no_draw() -> None:
    scores, one = logits(9, 200, 1000), Sampling(1.0, top_p=0.95)
    numbers = [float(generator("x", n).random()) for n in range(200)]
    shaken = scores + 1e-5 * torch.from_numpy(np.random.default_rng(1).normal(size=scores.shape)).float()
    same = choose(scores, [one] * 200, numbers) == choose(shaken, [one] * 200, numbers)
    assert int(same.sum()) >= 199


def test_without_temperature_the_largest_wins() -> None:
    scores = logits(3, 8)
    assert choose(scores, [GREEDY] * 8, [None] * 8).tolist() == scores.argmax(-1).tolist()
    near = replace(GREEDY, temperature=1e-3)
    assert choose(scores, [near] * 8, [0.5] * 8).tolist() == scores.argmax(-1).tolist()


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_tokens_that_cannot_come_do_not(number: float) -> None:
    scores = torch.full((1, SIZE), -torch.inf)
    scores[0, 7], scores[0, 9] = 0.0, 0.0
    assert int(choose(scores, [Sampling(1.0)], [number])[0]) == (7 if number == 0 else 9)


def test_many_rows_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, ones = logits(4, 10), [Sampling(1.0)] * 10
    numbers = [float(generator("x", n).random()) for n in range(10)]
    whole = choose(scores, ones, numbers).tolist()
    monkeypatch.setattr(sampling, "DRAWING_BYTES", 3 * 4 * 8 * SIZE)
    assert choose(scores, ones, numbers).tolist() == whole


@pytest.mark.parametrize("size", [5, 1023, 1024, 1300, 4096])
def test_the_largest_logit_is_argmax_s_also_in_the_last_part(size: int) -> None:
    from shardmark.engine.sampling import largest

    torch.manual_seed(size)
    logits = torch.randn(64, size)
    logits[0, size - 1], logits[1, 0], logits[2, size // 2] = 99.0, 99.0, float("inf")
    logits[3, size // 3], logits[4] = float("nan"), float("-inf")
    assert torch.equal(largest(logits)[:4], logits[:4].argmax(-1))
    assert torch.equal(largest(logits)[5:], logits[5:].argmax(-1))
    assert float(logits[4, largest(logits)[4]]) == float("-inf")
