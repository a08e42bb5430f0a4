"""The largest logits are those of float32 products, whatever 8 bits say of them first."""

from pathlib import Path
from typing import Any

import pytest

import tiny_models

PROMPTS = [[1, *range(20, 40)], [1, *range(20, 38), 7, 8], [1, 2, 3]]


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor and any vocabulary are worth it."""
    from shardmark.engine.transformers import model, packed, screening

    monkeypatch.setattr(packed, "processor", lambda: ("GenuineIntel", "AVX512"))
    monkeypatch.setattr(screening, "processor", lambda: ("GenuineIntel", "AVX512"))
    monkeypatch.setattr(screening, "_multiplies_integers", lambda: True)
    monkeypatch.setattr(screening, "LEAST_TOKENS", 1)
    monkeypatch.setattr(model, "LEAST_NEW_TOKENS", 8)
    monkeypatch.setattr(screening, "PART", 4)


def written(backend: Any, new_tokens: int = 8, **sampling: Any) -> list[str]:
    from shardmark.engine.generation import GenerateRow
    from shardmark.engine.sampling import Sampling

    rows = [GenerateRow(prompt, new_tokens, [], sampling=Sampling(**sampling)) for prompt in PROMPTS]
    found = {id(row): answer.text for done in backend.generate(rows) for row, answer in done}
    return [found[id(row)] for row in rows]


@pytest.mark.parametrize("outlier", [1.0, 1000.0])
def test_the_largest_logit_is_that_of_all(outlier: float) -> None:
    import torch

    from shardmark.engine.transformers.screening import Screen

    torch.manual_seed(1)
    weight = torch.randn(512, 96)
    weight[:50] = weight[400:450] + torch.randn(50, 96) / 1000  # 8 bits cannot tell them apart
    states = weight[:100] + torch.randn(100, 96) / 4
    states[:, 7] *= outlier
    screen, wanted = Screen(weight), torch.nn.functional.linear(states, weight)
    found = torch.cat([screen.logits(row[None]).clone() for row in states])
    assert found.argmax(1).tolist() == wanted.argmax(1).tolist()
    torch.testing.assert_close(found.amax(1), wanted.amax(1))


def test_most_of_the_vocabulary_is_not_multiplied() -> None:
    import torch

    from shardmark.engine.transformers.screening import Screen

    torch.manual_seed(0)
    weight = torch.randn(512, 96)
    screen = Screen(weight)
    for token in (3, 70):
        logits = screen.logits(weight[[token]])
        assert logits.isfinite().sum() == 32
        assert logits[0, token].isfinite()


@pytest.mark.parametrize("state", [float("nan"), float("inf"), 0.0])
def test_inputs_without_a_largest_logit_take_all(state: float) -> None:
    import torch

    from shardmark.engine.transformers.screening import Screen

    weight, other = torch.randn(2, 128, 8)
    states, other[5] = torch.full((2, 8), state), state
    for given, inputs in ((weight, states), (other, weight[:2])):
        wanted = torch.nn.functional.linear(inputs, given)
        torch.testing.assert_close(Screen(given).logits(inputs).amax(1), wanted.amax(1), equal_nan=True)


@pytest.mark.parametrize("size", [16, 640, 2048, 8192])
def test_sums_of_products_fit_in_32_bits(size: int) -> None:
    from shardmark.engine.transformers.screening import LEVELS, fine_steps

    fine = fine_steps(size)
    assert size * LEVELS * (LEVELS * fine + fine / 2) < 2**31
    assert fine / 2 <= LEVELS


@pytest.mark.slow
@pytest.mark.usefixtures("everywhere")
def test_texts_are_the_same_and_sampled_ones_see_all_logits(tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path)
    plain = tiny_models.load_backend(folder, pack_weights=False)
    backend = tiny_models.load_backend(folder)
    assert written(backend, new_tokens=2) == written(plain, new_tokens=2)
    assert "decoding" not in backend.methods  # it would not pay
    for settings in ({}, {"temperature": 1.0}, {"min_new_tokens": 5}, {}):
        assert written(backend, **settings) == written(plain, **settings)
        how = backend.methods.get("decoding", "")
        assert how == ("" if settings else "output weights in 8 bits, then float32")
