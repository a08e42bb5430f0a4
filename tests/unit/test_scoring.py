"""Scores by way of the token tree, and in padded batches, against one plain forward pass a row with full logits."""

import json
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from shardmark.engine.tokens import ScoredRow
from tiny_models import cramped, plain_score, scores

NEAR = 1e-4


@pytest.fixture(scope="module", params=[*tiny_models.ARCHITECTURES, *tiny_models.UNSHARED])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def backend(folder: Path) -> Any:
    return tiny_models.load_backend(folder)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    return tiny_models.plain_model(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_models.load_backend(tiny_models.random_model(tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def llama_plain(llama: Any) -> Any:
    return tiny_models.plain_model(llama.model.name_or_path)


def shard(seed: int = 0) -> list[ScoredRow]:
    """Few-shot prompts, their contexts and choices; one letter choices; whole prompts; strangers; one of full length.

    Longer than every sliding window of the tiny models, in all of these places.
    """
    draw = random.Random(seed)

    def text(length: int) -> list[int]:
        return [draw.randrange(256) for _ in range(length)]

    rows = []
    shots = text(20)
    for _ in range(4):
        context = shots + text(draw.randint(1, 12))
        choices = [text(draw.randint(1, 8)) for _ in range(3)]
        rows += [ScoredRow((context + choice)[:-1], choice, 0) for choice in choices]
        rows += [ScoredRow(context, [letter], 0) for letter in (65, 66)]
        whole = context + choices[0]
        rows.append(ScoredRow(whole[:-1], whole[1:], 0))
    for length in (1, 2, 9, 63):
        whole = text(length + 1)
        rows.append(ScoredRow(whole[:-1], whole[-draw.randint(1, length) :], 0))
    draw.shuffle(rows)
    return rows


def assert_near(found: list[tuple[float, bool]], wanted: list[tuple[float, bool]]) -> None:
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=NEAR)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]


@contextmanager
def forwards(model: Any) -> Iterator[list[int]]:
    """The number of tokens in each forward pass, padding included."""
    seen: list[int] = []

    def note(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["input_ids"].numel())

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def run(backend: Any, rows: list[ScoredRow], budget: Any) -> list[tuple[float, bool]]:
    """Scores by way of the tree, whatever the model."""
    from shardmark.engine.transformers.scoring import tree_results

    return [score for _, score in sorted(pair for done in tree_results(backend, rows, budget) for pair in done)]


# Every architecture


def test_scores_are_those_of_full_logits_one_row_at_a_time(backend: Any, plain: Any) -> None:
    assert_near(scores(backend, shard()), [plain_score(plain, row) for row in shard()])


@pytest.mark.parametrize("architecture", tiny_models.PECULIAR)
def test_peculiar_attention_sees_its_branch_too(tmp_path: Path, architecture: str) -> None:

    from shardmark.engine.tree import Budget

    folder = tiny_models.random_model(tmp_path, architecture)
    backend = tiny_models.load_backend(folder)
    assert not refusal(backend)
    plain = tiny_models.plain_model(folder)
    wanted = [plain_score(plain, row) for row in shard()]
    assert_near(scores(backend, shard()), wanted)
    assert_near(run(backend, shard(), Budget(11, 7)), wanted)


QUICK = [(1, 1), (8, 3), ("auto", 7)]
"Each size of batches, and each number of shards; all combinations are slow."
COMBINATIONS = [
    pytest.param(*each, marks=[] if each in QUICK else pytest.mark.slow) for each in product([1, 8, "auto"], [1, 3, 7])
]


@pytest.mark.parametrize(("batch_size", "shards"), COMBINATIONS)
def test_scores_do_not_depend_on_batches_shards_or_order(backend: Any, batch_size: Any, shards: int) -> None:
    rows = shard(1)
    wanted = scores(backend, rows)
    order = random.Random(2).sample(range(len(rows)), len(rows))
    for part in (order[n::shards] for n in range(shards)):
        found = scores(backend, [rows[n] for n in part], batch_size, padding=shards != 7)
        assert_near(found, [wanted[n] for n in part])


def test_greedy_means_that_every_scored_token_is_the_argmax(backend: Any, plain: Any) -> None:
    import torch

    tokens = [70, 71, 72]
    with torch.inference_mode():
        for _ in range(4):
            tokens.append(int(plain(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    prompt, good = tokens[:3], tokens[3:]
    wrong_first, wrong_last = [(good[0] + 1) % 256, *good[1:]], [*good[:-1], (good[-1] + 1) % 256]
    rows = [ScoredRow((prompt + cont)[:-1], cont, 0) for cont in (good, wrong_first, wrong_last)]
    assert [greedy for _, greedy in scores(backend, rows)] == [True, False, False]


def test_who_shares_prefixes_and_who_does_not(backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    from shardmark.engine.transformers.scoring import Scorer

    scorer = Scorer(backend)
    kind = backend.model.config.model_type.removesuffix("_text")
    with caplog.at_level(logging.WARNING):
        assert scorer.shares() == scorer.shares() == (kind in tiny_models.ARCHITECTURES)
    assert len(caplog.records) == (kind in tiny_models.UNSHARED)
    reasons = {
        "mamba": "it has recurrent layers",
        "bloom": "it does not accept position_ids",
        "falcon": "it has custom attention",
        "gpt_neo": "it has custom attention",
    }
    assert reasons.get(kind, "") in caplog.text


def test_scoring_leaves_the_model_as_it_was(backend: Any, plain: Any) -> None:
    row = ScoredRow([5, 6, 7], [8], 0)
    before = [module.config._attn_implementation for module in backend.model.modules() if hasattr(module, "config")]
    scores(backend, shard())
    with pytest.raises(IndexError):
        scores(backend, [ScoredRow([1, 10**6], [1], 0)])  # no such token
    after = [module.config._attn_implementation for module in backend.model.modules() if hasattr(module, "config")]
    assert after == before
    assert_near([plain_score(backend.model, row)], [plain_score(plain, row)])


def test_bfloat16_logits_get_a_float32_softmax(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    backend = tiny_models.load_backend(folder, dtype="bfloat16")
    assert backend.model.dtype == torch.bfloat16
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    for row in shard()[:8]:
        (value, _), (wanted, _) = scores(backend, [row])[0], plain_score(plain, row)
        assert value == pytest.approx(wanted, rel=0.1)  # bfloat16 itself; its softmax is seen below


# What is computed


def test_every_prefix_goes_through_the_model_once(llama: Any) -> None:
    from shardmark.engine.tree import Budget

    rows = shard()
    prefixes = {tuple(row.inputs[:n]) for row in rows for n in range(1, len(row.inputs) + 1)}
    for budget in (Budget(1000, 1000), Budget(10, 1000), Budget(1000, 1000, 1)):
        with forwards(llama.model) as seen:
            run(llama, rows, budget)
        assert sum(seen) == len(prefixes)


def test_the_output_layer_runs_once_after_each_scored_prefix(llama: Any) -> None:
    from shardmark.engine.tree import Budget

    rows = shard()
    scored = {
        tuple(row.inputs[:n]) for row in rows for n in range(len(row.inputs) - len(row.scored) + 1, len(row.inputs) + 1)
    }
    positions: list[int] = []
    hook = llama.model.lm_head.register_forward_hook(lambda _, args, logits: positions.append(logits.shape[1]))
    run(llama, rows, Budget(1000, 17))
    hook.remove()
    assert sum(positions) == len(scored)
    assert max(positions) == 17


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_number_bounds_the_branches_in_a_forward(llama: Any, batch_size: int) -> None:
    rows = [ScoredRow([1, 2, 3, n], [5], 0) for n in range(10, 30)]
    scores(llama, rows)  # the trials
    with forwards(llama.model) as seen:
        scores(llama, rows, batch_size)
    assert max(seen[7:]) == 3 + batch_size
    assert len(seen[7:]) == 20 / batch_size


def test_the_budget_follows_from_memory_or_from_the_number_that_is_set(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shardmark.engine.transformers import scoring, tree_forward

    usual = scoring.scoring_budget(llama, "auto", 60)
    assert (usual.rows, scoring.scoring_budget(llama, 3, 60).rows) == (None, 3)
    assert usual.tokens == tree_forward.MOST_TOKENS["cpu"]
    sizes = []
    for free in (1 << 21, 1 << 19, 1 << 16, 0):
        monkeypatch.setattr(scoring, "free_for", lambda _, free=free: free)
        small = scoring.scoring_budget(llama, "auto", 60)
        sizes.append((small.tokens, small.outputs))
        logits = small.outputs * 4 * llama.model.config.vocab_size
        assert logits <= free or small.outputs == 1
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < (usual.tokens, usual.outputs)
    assert sizes[-1] == (scoring.LEAST_TOKENS, 1)


def test_tokens_that_take_much_are_fewer_in_a_forward_on_a_cpu(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import scoring, tree_forward

    sizes = []
    for one in (1 << 10, 150 << 10, 1 << 20):
        monkeypatch.setattr(scoring, "activation_bytes", lambda _, one=one: one - scoring.cache_bytes(llama.model))
        sizes.append(scoring.scoring_budget(llama, "auto", 60).tokens)
    assert sizes == [tree_forward.MOST_TOKENS["cpu"], scoring.CACHED_BYTES // (150 << 10), scoring.CACHED_TOKENS]


def test_a_large_window_takes_no_memory_from_short_rows(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import scoring, tree_forward

    short, long = (scoring.scoring_budget(llama, "auto", longest).tokens for longest in (60, 10**9))
    monkeypatch.setattr(llama, "window", 10**9)
    assert scoring.scoring_budget(llama, "auto", 60).tokens == short == tree_forward.MOST_TOKENS["cpu"]
    assert long == scoring.LEAST_TOKENS


def test_memory_that_only_holds_files_counts_as_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    from shardmark.engine.transformers import memory

    assert memory.free_bytes(torch.device("cpu")) > 1 << 20
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 5000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.free_bytes(torch.device("cpu")) == 5000 << 10
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "not there")
    assert memory.free_bytes(torch.device("cpu")) > 1 << 20


def test_the_softmax_works_in_parts_and_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from shardmark.engine.transformers import logits as layer

    logits = torch.randn(9, 50, generator=torch.Generator().manual_seed(0)).mul(8).bfloat16()
    at, targets = torch.tensor([0, 0, 3, 8, 8, 8]), torch.tensor([1, 2, 3, 4, 5, int(logits[8].argmax())])
    wanted = logits.double().log_softmax(1)[at, targets].tolist()
    for size in (1, 3 * 8 * 50, 1 << 30):
        monkeypatch.setitem(layer.SOFTMAX_BYTES, "cpu", size)
        values, best = layer.log_likelihoods(logits, at, targets)
        assert values.dtype == torch.float32
        assert values.tolist() == pytest.approx(wanted, abs=1e-5)
        assert best.tolist() == (logits[at].argmax(1) == targets).tolist()
        assert best[-1]


def test_logits_that_are_not_finite_are_treated_as_by_logsumexp() -> None:
    import torch

    from shardmark.engine.transformers.logits import log_likelihoods

    logits = torch.randn(4, 2000)
    logits[0, 7], logits[1, 7], logits[2] = torch.inf, torch.nan, -torch.inf
    found, best = log_likelihoods(logits, torch.arange(4), torch.full((4,), 7))
    wanted = logits[:, 7] - logits.logsumexp(1)
    assert torch.allclose(found, wanted, equal_nan=True)
    assert best.tolist() == (logits.argmax(1) == 7).tolist()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [1, 7, 2048])
def test_an_output_layer_in_slices_gives_the_same_values(
    monkeypatch: pytest.MonkeyPatch, size: int, bias: bool
) -> None:
    import torch

    from shardmark.engine.transformers import logits as output

    monkeypatch.setattr(output, "SLICE", size)
    layer, states = torch.nn.Linear(4, 20, bias), torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        layer.weight.zero_()[[3, 9]] = 2 * torch.ones(4)  # equal logits: the first token is the argmax
        states[1], states[2] = torch.ones(4), torch.nan
        at, targets = torch.tensor([0, 1, 1, 1, 2, 5]), torch.tensor([4, 3, 9, 19, 3, 0])
        wanted = output.log_likelihoods(layer(states), at, targets)
        found = output.sliced_log_likelihoods(layer, states, at, targets)
    assert torch.allclose(found[0], wanted[0], atol=1e-5, equal_nan=True)
    assert found[1].tolist() == wanted[1].tolist()
    assert bias or found[1].tolist()[1:3] == [True, False]


@pytest.mark.parametrize(("outputs", "passes"), [(1, 16), (20, 16), (10**9, 2), (10**9, 10**9)])
def test_the_output_layer_waits_for_more_positions(
    llama: Any, llama_plain: Any, monkeypatch: pytest.MonkeyPatch, outputs: int, passes: int
) -> None:
    from shardmark.engine.transformers import scoring

    monkeypatch.setattr(scoring, "POOLED_OUTPUTS", outputs)
    monkeypatch.setattr(scoring, "POOLED_FORWARDS", passes)
    monkeypatch.setitem(scoring.MOST_TOKENS, "cpu", 16)
    sizes, whole = [], scoring.sliced_log_likelihoods

    def noted(layer: Any, states: Any, *rest: Any) -> Any:
        sizes.append(len(states))
        return whole(layer, states, *rest)

    monkeypatch.setattr(scoring, "sliced_log_likelihoods", noted)
    assert_near(scores(llama, shard()), [plain_score(llama_plain, row) for row in shard()])
    if outputs == 20:
        assert min(sizes[:-1]) >= 20
    assert (len(sizes) == 1) == (outputs == passes)


@pytest.mark.parametrize(("batch_size", "share"), [(1, 0.1), ("auto", 1.0)])
def test_nothing_waits_where_a_pass_is_long_or_bounded(
    llama: Any, monkeypatch: pytest.MonkeyPatch, batch_size: Any, share: float
) -> None:
    """A number of rows bounds what a kill may cost; a large model's pass takes long, its output layer little of it."""
    from shardmark.engine.transformers import scoring

    monkeypatch.setattr(scoring, "POOLED_SHARE", share)
    monkeypatch.setitem(scoring.MOST_TOKENS, "cpu", 16)
    together, whole = [], scoring._pooled
    monkeypatch.setattr(scoring, "_pooled", lambda head, waiting: together.append(len(waiting)) or whole(head, waiting))
    scores(llama, shard(), batch_size)
    assert set(together) == {1}
    assert len(together) > 1


def test_logits_that_the_model_changes_are_left_to_it(backend: Any) -> None:
    from shardmark.engine.transformers.logits import plain_output_layer

    rows, is_capped = (
        backend.model.get_input_embeddings().weight,
        getattr(backend.model.config, "final_logit_softcapping", None),
    )
    first = rows[0].clone()
    for row in (first, 0 * first):  # as for padding, after which the logits may be 0, and 0 is capped to 0
        rows.data[0] = row
        assert (plain_output_layer(backend.model) is None) == bool(is_capped)
    rows.data[0] = first


def test_the_last_mlp_runs_at_scored_positions_only(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers.scoring import MOST_TOKENS, Scorer
    from shardmark.engine.transformers.sharing import last_mlp_of

    scorer, seen = Scorer(backend), []
    if not scorer.shares() or getattr(backend.model.config, "final_logit_softcapping", None):
        assert scorer._last_mlp is None
        return
    mlp = last_mlp_of(backend.model)
    hook = mlp.register_forward_hook(lambda _, args, output: seen.append(args[0].shape[1]))
    list(scorer.results([ScoredRow([70, 71, 72, 73, 74], [75, 76], 0), ScoredRow([70, 71, 80], [81], 0)]))
    assert seen == [3]
    monkeypatch.setitem(MOST_TOKENS, "cpu", 2)
    list(scorer.results([ScoredRow([70, 71, 72, 73, 74], [75], 0)]))
    hook.remove()
    assert seen == [3, 1, 1, 1]  # at one token where there are no outputs: some modules cannot take none


def test_masks_too_large_to_keep_give_the_same_bits(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import tree_attention

    rows = [ScoredRow([70, 71, 72, *branch], [75, 76], 0) for branch in ([80, 81], [82], [80, 83, 84])]
    kept = scores(backend, rows)
    monkeypatch.setattr(tree_attention, "MASK_BYTES", 0)
    assert scores(backend, rows) == kept


def test_the_last_mlp_of_a_model_that_repeats_its_layers_runs_everywhere(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    from shardmark.engine.transformers.sharing import last_mlp_of

    layers = llama.model.model.layers
    assert last_mlp_of(llama.model) is layers[-1].mlp
    monkeypatch.setitem(llama.model.model._modules, "layers", nn.ModuleList([layers[1], layers[0], layers[1]]))
    assert last_mlp_of(llama.model) is None


def test_what_waits_for_the_output_layer_is_kept_when_a_later_pass_fails(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shardmark.engine.transformers import scoring
    from shardmark.engine.tree import Budget

    head, whole = llama.model.lm_head, scoring.chunk_states
    passes = iter(range(3))

    def failing(*given: Any) -> Any:
        if next(passes) == 2:
            raise RuntimeError("some fault")
        return whole(*given)

    monkeypatch.setattr(scoring, "chunk_states", failing)
    results = scoring.tree_results(llama, shard(), Budget(60, 60), head, forwards=16)
    assert next(results)
    with pytest.raises(RuntimeError, match="some fault"):
        next(results)


def test_a_model_whose_logits_come_from_elsewhere_is_refused(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from shardmark.engine.transformers.padded import score_padded
    from shardmark.engine.tree import Budget

    unused = torch.nn.Linear(1, 1)
    monkeypatch.setattr(llama.model, "get_output_embeddings", lambda: unused)
    rows = [ScoredRow([1, 2], [3], 0), ScoredRow([4, 5], [6], 0)]  # as many targets as a row has outputs
    with pytest.raises(RuntimeError, match="does not take its logits from its output embeddings"):
        score_padded(llama, rows)
    with pytest.raises(RuntimeError, match="does not take its logits from its output embeddings"):
        run(llama, rows, Budget(100, 100))


def test_no_rows_need_no_model(llama: Any) -> None:
    with forwards(llama.model) as seen:
        assert scores(llama, []) == []
    assert seen == []


tokens = st.integers(0, 3).map(lambda n: 70 + n)


@st.composite
def random_row(draw: Any) -> ScoredRow:
    whole = draw(st.lists(tokens, min_size=2, max_size=20))
    return ScoredRow(whole[:-1], whole[-draw(st.integers(1, len(whole) - 1)) :], 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(random_row(), min_size=1, max_size=12), st.integers(1, 30), st.integers(1, 9), st.integers(1, 4))
def test_random_trees_in_random_chunks_are_scored_as_their_rows(
    llama: Any, llama_plain: Any, rows: list[ScoredRow], size: int, outputs: int, branches: int
) -> None:
    from shardmark.engine.tree import Budget

    found = run(llama, rows, Budget(size, outputs, branches))
    assert_near(found, [plain_score(llama_plain, row) for row in rows])


@pytest.mark.parametrize("block", [1, 3, 64])
def test_the_size_of_attention_blocks_changes_nothing(
    llama: Any, llama_plain: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shardmark.engine.transformers import tree_forward

    monkeypatch.setitem(tree_forward.BLOCK, "cpu", block)
    assert_near(scores(llama, shard()), [plain_score(llama_plain, row) for row in shard()])


# Out of memory in mid-run


@pytest.mark.parametrize("size", [64, 70, 100, 140])
def test_running_out_of_memory_loses_nothing_and_repeats_only_what_failed(
    llama: Any, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows = shard()
    wanted = scores(llama, rows)
    with cramped(llama.model, size) as sizes:
        assert_near(scores(llama, rows), wanted)
    assert 1 <= sum(used > size for used in sizes) <= 8
    assert "out of memory with" in caplog.text


def test_what_is_done_stays_done_when_memory_runs_out_later(llama: Any) -> None:
    from shardmark.engine.transformers.scoring import tree_results
    from shardmark.engine.tree import Budget

    rows = shard()
    wanted = scores(llama, rows)
    results = tree_results(llama, rows, Budget(150, 1000))
    found = dict(next(results))
    with cramped(llama.model, 80), forwards(llama.model):
        later = [pair for done in results for pair in done]
    assert found
    assert not found.keys() & dict(later).keys()
    found |= dict(later)
    assert_near([found[n] for n in range(len(rows))], wanted)


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_a_row_that_does_not_fit_alone_is_named(tmp_path: Path, architecture: str) -> None:
    from shardmark.engine.batches import OutOfMemoryError

    backend = tiny_models.load_backend(tiny_models.random_model(tmp_path, architecture))
    rows = [ScoredRow([1, 2, 3], [4], 0), ScoredRow(list(range(50)), [4], 0), ScoredRow([2, 3], [4], 0)]
    with cramped(backend.model, 50):
        scores(backend, rows)
    with cramped(backend.model, 49), pytest.raises(OutOfMemoryError) as caught:
        scores(backend, rows)
    assert caught.value.row == 1


def test_other_errors_are_not_swallowed(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import scoring

    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(scoring, "chunk_states", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        scores(llama, shard())


# The trial finds models that cannot score a tree, and these are scored in batches


def refusal(backend: Any) -> str:
    from shardmark.engine.transformers.sharing import why_not_shared

    return why_not_shared(backend.model, backend.window) or ""


def test_blocks_end_at_the_window_and_a_chain_is_never_copied() -> None:
    """400 tokens in a row, then two branches, for a layer with a window of 32 and for one without."""
    import numpy as np
    import torch

    from shardmark.engine.transformers.tree_attention import View
    from shardmark.engine.tree import Budget, TokenTree

    chain = [n % 50 for n in range(400)]
    tree = TokenTree([ScoredRow([*chain, branch, 3, 4], [5], 0) for branch in (1, 2)])
    path = np.arange(300)
    view = View(tree.chunk(300, path, Budget(200, 200)), 64, "sdpa")
    whole = view.allowed(lambda b, h, query, key: key <= query, torch.device("cpu"))[None, None]
    window = view.allowed(lambda b, h, query, key: (key <= query) & (key > query - 32), torch.device("cpu"))[None, None]
    assert [block.columns for block in view.blocks(whole)] == [slice(0, 364), slice(0, 406)]
    assert [block.columns for block in view.blocks(window)] == [slice(269, 364), slice(333, 406)]
    for mask in (whole, window):
        for block in view.blocks(mask):
            rows, columns = mask[:, :, block.tokens], block.columns
            assert torch.equal(block.mask, rows[..., columns])
            assert int(rows.sum()) == int(block.mask.sum())
    for block, added in zip(view.blocks(window), view.blocks(window, 2, torch.float32), strict=True):
        assert torch.equal(added.mask, torch.cat([block.mask.float().log()] * 2, 2))
    assert view.blocks(whole) is view.blocks(whole)


def test_far_branches_are_left_out_of_a_block() -> None:
    import numpy as np
    import torch

    from shardmark.engine.transformers.tree_attention import View
    from shardmark.engine.tree import Budget, TokenTree

    tree = TokenTree([ScoredRow([1, *[branch] * 40], [5], 0) for branch in range(2, 6)])
    view = View(tree.chunk(0, np.zeros(0, dtype=np.int64), Budget(200, 200)), 40, "eager")
    allowed = view.allowed(lambda b, h, query, key: key <= query, torch.device("cpu"))
    mask = torch.zeros(1, 1, *allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    last = view.blocks(mask)[-1]
    assert last.columns.tolist() == [0, *range(121, 161)]
    assert torch.equal(last.mask, mask[:, :, 160:, last.columns])


def causal_only(view: Any, mask_function: Any, device: Any) -> Any:
    """A mask that forgets the tree."""
    import torch

    return torch.ones(view.size, len(view.depth), dtype=torch.bool).tril(view.past)


def test_a_model_that_does_not_take_the_mask_is_found_out(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import tree_attention

    wanted = scores(llama, shard())
    monkeypatch.setattr(tree_attention.View, "allowed", causal_only)
    assert "in a trial its hidden states were off by" in refusal(llama)
    assert_near(scores(llama, shard()), wanted)


def test_a_model_that_does_not_take_positions_is_found_out(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import tree_forward

    def without_positions(model: Any, chunk: Any, cache: Any) -> dict[str, Any]:
        return {k: v for k, v in inputs(model, chunk, cache).items() if k != "position_ids"}

    wanted, inputs = scores(llama, shard()), tree_forward._inputs
    monkeypatch.setattr(tree_forward, "_inputs", without_positions)
    assert "in a trial its hidden states were off by" in refusal(llama)
    assert_near(scores(llama, shard()), wanted)


def test_a_model_whose_cache_forgets_is_found_out(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import tree_forward

    wanted, cache = scores(llama, shard()), tree_forward._cache
    monkeypatch.setattr(tree_forward, "_cache", lambda kept: cache([]))
    assert "its attention does not work on trees (NoTreeError: it asks for a mask of" in refusal(llama)
    assert_near(scores(llama, shard()), wanted)


def test_a_model_with_attention_of_its_own_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    backend = tiny_models.load_backend(
        tiny_models.random_model(tmp_path), model_kwargs={"attn_implementation": "eager"}
    )
    assert not refusal(backend)
    monkeypatch.delattr(modeling_llama, "ALL_ATTENTION_FUNCTIONS")
    assert "its attention does not work on trees" in refusal(backend)


def test_a_model_that_scales_attention_by_columns_shares_no_prefixes_where_it_would_show(tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path, "llama4")
    config = json.loads((folder / "config.json").read_text())
    scaled = {"no_rope_layers": [0, 0], "floor_scale": 24, "attn_scale": 9.0}
    (folder / "config.json").write_text(json.dumps(config | scaled))
    backend = tiny_models.load_backend(folder)
    assert_near(scores(backend, shard()), [plain_score(backend.model, row) for row in shard()])
    assert "scaled by places in the cache" in refusal(backend)


@pytest.mark.parametrize("more", [{}, {"original_max_position_embeddings": 64}])
def test_dynamic_rotary_embeddings_forget_the_longest_sequence(tmp_path: Path, more: dict[str, int]) -> None:
    folder = tiny_models.random_model(tmp_path, window=16)
    config = json.loads((folder / "config.json").read_text())
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, **more}
    (folder / "config.json").write_text(json.dumps(config | {"rope_parameters": dynamic}))
    rows = [ScoredRow([(31 * n + length) % 256 for n in range(length)], [4], 0) for length in (40, 10, 20, 16)]
    found = scores(tiny_models.load_backend(folder, max_seq_len=64), rows)
    alone = [tiny_models.load_backend(folder, max_seq_len=64) for _ in rows]
    assert_near(found, [plain_score(backend.model, row) for backend, row in zip(alone, rows, strict=True)])


def test_weights_that_are_no_numbers_do_not_pass_the_trial(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = llama.model.model.norm.weight
    before = weight.data.clone()
    weight.data.fill_(float("nan"))
    try:
        assert "off by nan" in refusal(llama)
    finally:
        weight.data.copy_(before)


@pytest.mark.parametrize(
    ("rope", "window", "refused"),
    [
        ({"rope_type": "default"}, 10**6, False),
        ({"rope_type": "linear", "factor": 2.0}, 10**6, False),
        ({"rope_type": "dynamic", "factor": 2.0}, tiny_models.WINDOW, False),
        ({"rope_type": "dynamic", "factor": 2.0}, tiny_models.WINDOW + 1, True),
        ({"rope_type": "longrope", "original_max_position_embeddings": 32}, 32, False),
        ({"rope_type": "longrope", "original_max_position_embeddings": 32}, 33, True),
        ({"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {"rope_type": "default"}}, 65, True),
    ],
)
def test_where_positions_depend_on_the_length_nothing_is_shared(
    llama: Any, monkeypatch: pytest.MonkeyPatch, rope: dict[str, Any], window: int, refused: bool
) -> None:
    monkeypatch.setattr(llama.model.config, "rope_parameters", rope)
    monkeypatch.setattr(llama, "window", window)
    assert refusal(llama).startswith("its rotary embedding depends on the length") is refused


def test_rows_beyond_the_original_window_are_scored_by_their_own_length(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    rope |= {"short_factor": [1.0, 1.0], "long_factor": [1.0, 7.0]}
    tokens = {"vocab_size": len(tiny_models.save_tokenizer(tmp_path)), "max_position_embeddings": tiny_models.WINDOW}
    LlamaForCausalLM(LlamaConfig(**shape, **tokens, rope_parameters=rope, initializer_range=0.4)).save_pretrained(
        tmp_path
    )
    backend = tiny_models.load_backend(tmp_path)
    assert "its rotary embedding depends on the length" in refusal(backend)
    plain = tiny_models.plain_model(tmp_path)
    assert_near(scores(backend, shard()), [plain_score(plain, row) for row in shard()])


def test_flash_attention_is_named_as_what_stands_in_the_way(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import sharing

    monkeypatch.setattr(sharing, "attention_of", lambda _: "flash_attention_2")
    assert "flash_attention_2 accepts no mask; attn_implementation: sdpa" in refusal(llama)
