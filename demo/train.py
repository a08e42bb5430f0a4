"""Train the demo's three tiny Llama-architecture models from scratch, on the CPU.

Same machine, same library versions, same seed and same thread count give the same weights;
another machine may differ in the last bits and so in the last percent of accuracy.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from check import MODELS, accuracies, load_sets
from generators import TASKS, draw_set, keys_of, training_stream
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).parent
IGNORED = -100
"""Label that the loss skips."""


@dataclass(frozen=True)
class Recipe:
    """Shape, training length of one model."""

    hidden: int
    layers: int
    heads: int
    mlp: int
    steps: int
    muon_rate: float = 0.02
    adam_rate: float = 3e-3


RECIPES = {
    "large": Recipe(hidden=160, layers=4, heads=5, mlp=432, steps=480),
    "medium": Recipe(hidden=96, layers=3, heads=3, mlp=256, steps=260),
    "small": Recipe(hidden=48, layers=2, heads=2, mlp=128, steps=90),
}
# Few strings, as they are learned first; much grammar, as it is learned last.
BATCH_PER_TASK = {"arithmetic": 48, "strings": 20, "comparison": 32, "grammar": 40}
WARMUP = 50
DEV_ROWS = 100


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte: any text survives a round trip, and digits are always single tokens."""
    special = ["<pad>", "<s>", "</s>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(special + alphabet)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A randomly initialised Llama with tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.mlp,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batches(
    tokenizer: PreTrainedTokenizerFast,
    stream: Iterator[tuple[str, str]],
    size: int,
    forbidden: frozenset[tuple[str, str]],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (input ids, labels) of one task; the loss sees the continuation and EOS only.

    The random question is left out of the loss because nothing in it can be predicted.
    `forbidden` holds the test items as text: meeting one would mean that the stream leaks.
    """
    while True:
        ids: list[list[int]] = []
        labels: list[list[int]] = []
        for _ in range(size):
            context, text = next(stream)
            assert (context, text) not in forbidden, f"test item in training: {context}{text}"
            head = tokenizer(context)["input_ids"]
            tail = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            ids.append(head + tail)
            labels.append([IGNORED] * len(head) + tail)
        width = max(map(len, ids))
        yield (
            torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids]),
            torch.tensor([row + [IGNORED] * (width - len(row)) for row in labels]),
        )


def optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "layers" in name)]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_factor(step: int, steps: int) -> float:
    """Learning-rate factor: short linear warm-up, then a cosine down to zero."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def fit(
    model: LlamaForCausalLM,
    recipe: Recipe,
    streams: dict[str, Iterator[tuple[torch.Tensor, torch.Tensor]]],
    report: Callable[[int, dict[str, float]], None],
    report_every: int,
) -> None:
    """Train on a batch of each task a step; `report` is told steps and losses now and then."""
    parts = optimizers(model, recipe)
    factor = partial(rate_factor, steps=recipe.steps)
    schedules = [torch.optim.lr_scheduler.LambdaLR(part, factor) for part in parts]
    for step in range(1, recipe.steps + 1):
        model.train()
        losses = {}
        # One backward pass per task, since texts of one task have similar lengths and need little padding.
        for task_name, stream in streams.items():
            ids, labels = next(stream)
            loss = model(input_ids=ids, labels=labels).loss
            loss.backward()
            losses[task_name] = loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part, schedule in zip(parts, schedules, strict=True):
            part.step()
            part.zero_grad()
            schedule.step()
        if step % report_every == 0 or step == recipe.steps:
            report(step, losses)


def train(name: str, recipe: Recipe, args: argparse.Namespace) -> None:
    """Train one model, printing loss and held-out accuracy, and save it."""
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer()
    model = build_model(recipe, tokenizer)
    print(f"{name}: {model.num_parameters():,} parameters, {recipe.steps} steps", flush=True)

    test = load_sets(args.data)
    dev = {}
    streams = {}
    for task in TASKS.values():
        barred: frozenset[Hashable] = keys_of(task, test[task.name])
        dev[task.name] = draw_set(task, DEV_ROWS, random.Random(f"{args.seed}-dev-{task.name}"), barred)
        barred |= keys_of(task, dev[task.name])
        stream = training_stream(task, random.Random(f"{args.seed}-train-{task.name}"), barred)
        forbidden = frozenset(task.text(row) for row in test[task.name])
        streams[task.name] = batches(tokenizer, stream, BATCH_PER_TASK[task.name], forbidden)

    began = time.perf_counter()

    def report(step: int, losses: dict[str, float]) -> None:
        held_out = accuracies(model, tokenizer, dev)
        shown = ", ".join(f"{key} loss {losses[key]:.3f} acc {held_out[key]:.2f}" for key in losses)
        print(f"{name} step {step} ({time.perf_counter() - began:.0f} s): {shown}", flush=True)

    fit(model, recipe, streams, report, args.report_every)
    save(model, tokenizer, args.out / name)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the Hugging Face files, the weights in float16."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The class name that transformers 4 and 5 both know; version 5 writes a name of its own.
    config = folder / "tokenizer_config.json"
    fields = json.loads(config.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)


def main() -> None:
    """Train the chosen models one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=HERE / "data", help="test sets to keep out of training")
    parser.add_argument("--out", type=Path, default=HERE / "models", help="folder for the saved models")
    parser.add_argument("--model", choices=MODELS, action="append", help="train only this one (repeatable)")
    parser.add_argument("--seed", type=int, default=7, help="seed of weights and training stream")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--report-every", type=int, default=100, help="steps between two reports")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    disable_progress_bar()
    began = time.perf_counter()
    for name in args.model or MODELS:
        train(name, RECIPES[name], args)
    print(f"trained in {time.perf_counter() - began:.0f} s; now run check.py for the test accuracy")


if __name__ == "__main__":
    main()
