"""Teach the demo's medium model to chat, once plainly and once with thoughts, on the CPU.

Both go on from the weights of `medium` (train.py) with texts of the same four tasks, put into turns by a chat template.
The thinker writes its steps between <think> and </think>, which are special tokens, before each answer it generates.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from check import CHAT_MODELS, chat_context, load_sets
from generators import TASKS, THOUGHTS, Row, Task, chat, keys_of, thought
from tokenizers import AddedToken
from train import BATCH_PER_TASK, HERE, RECIPES, batches, fit, save
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

TURNS = ("<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
  {%- if message.role == "system" %}{{ raise_exception("a system message has no place") }}{% endif %}
  {{- "<|" + message.role + "|>" + message.content + "<|end|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|assistant|>" }}{% endif %}"""

RECIPES_OF_CHATS = {
    "chat": replace(RECIPES["medium"], steps=160, muon_rate=0.01, adam_rate=1.5e-3),
    "thinker": replace(RECIPES["medium"], steps=500),
}


def teach(tokenizer: PreTrainedTokenizerFast, thinks: bool) -> None:
    """Give a tokenizer the tokens and the template of chats."""
    special = [*TURNS, *(THOUGHTS if thinks else ())]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special], special_tokens=True)
    tokenizer.eos_token = "<|end|>"
    tokenizer.chat_template = TEMPLATE


def stream(
    tokenizer: PreTrainedTokenizerFast, task: Task, rng: random.Random, barred: frozenset[Hashable], thinks: bool
) -> Iterator[tuple[str, str]]:
    """Endless chats about rows that are not in the test set: what is read, and the assistant's turn without its end."""
    while True:
        row = task.draw(rng, rng.choice(task.kinds), rng.randrange(task.labels))
        if task.key(row) not in barred:
            yield chat_context(tokenizer, task, row), answer_of(task, row, thinks)


def answer_of(task: Task, row: Row, thinks: bool) -> str:
    """What the assistant writes about a row."""
    answer, steps = chat(task, row)[1], thought(task, row) if thinks else ""
    return f"{THOUGHTS[0]}{steps}{THOUGHTS[1]}{answer}" if steps else answer


def train(name: str, args: argparse.Namespace) -> None:
    """Train one model and save it."""
    thinks = name == "thinker"
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.out / "medium")
    teach(tokenizer, thinks)
    model = LlamaForCausalLM.from_pretrained(args.out / "medium", dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.eos_token_id = tokenizer.eos_token_id
    streams = {}
    for task in TASKS.values():
        test = load_sets(args.data)[task.name]
        rng = random.Random(f"{args.seed}-{name}-{task.name}")
        forbidden = frozenset((chat_context(tokenizer, task, row), answer_of(task, row, thinks)) for row in test)
        chats = stream(tokenizer, task, rng, keys_of(task, test), thinks)
        streams[task.name] = batches(tokenizer, chats, BATCH_PER_TASK[task.name] // 2, forbidden)
    began = time.perf_counter()

    def report(step: int, losses: dict[str, float]) -> None:
        shown = ", ".join(f"{key} {loss:.3f}" for key, loss in losses.items())
        print(f"{name} step {step} ({time.perf_counter() - began:.0f} s): loss of {shown}", flush=True)

    fit(model, RECIPES_OF_CHATS[name], streams, report, args.report_every)
    save(model, tokenizer, args.out / name)


def main() -> None:
    """Train the chosen models one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=HERE / "data", help="test sets to keep out of training")
    parser.add_argument("--out", type=Path, default=HERE / "models", help="folder of medium, and of the saved models")
    parser.add_argument("--model", choices=CHAT_MODELS, action="append", help="train only this one (repeatable)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the training stream")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--report-every", type=int, default=20, help="steps between two reports")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    disable_progress_bar()
    for name in args.model or CHAT_MODELS:
        train(name, args)
    print("now run check.py for the test accuracy")


if __name__ == "__main__":
    main()
