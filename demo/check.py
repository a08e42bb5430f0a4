"""Accuracy of the demo models on the four test sets, and a check of their tokenizer."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from generators import ANSWER_END, TASKS, THOUGHTS, Row, Task, chat, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).parent
MODELS = ("large", "medium", "small")
CHAT_MODELS = ("chat", "thinker")
NEW_TOKENS = 14
THOUGHT_TOKENS = 64
BATCH = 256


@torch.inference_mode()
def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[str]:
    """Greedy answers after the last thought, cut at the first newline and stripped of the leading space."""
    # Prompts of equal length share a batch, so that no padding can influence the result.
    by_length: dict[int, list[int]] = defaultdict(list)
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    for index, ids in enumerate(encoded):
        by_length[len(ids)].append(index)
    closing = tokenizer.get_vocab().get(THOUGHTS[1])
    limit = NEW_TOKENS if closing is None else NEW_TOKENS + THOUGHT_TOKENS
    answers = [""] * len(prompts)
    for length, indices in by_length.items():
        ids = torch.tensor([encoded[index] for index in indices])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False)
        for index, row in zip(indices, out[:, length:].tolist(), strict=True):
            answer = row[len(row) - row[::-1].index(closing) :] if closing in row else row
            answers[index] = tokenizer.decode(answer, skip_special_tokens=True).split(ANSWER_END)[0].strip()
    return answers


@torch.inference_mode()
def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: list[tuple[str, str]]
) -> list[tuple[float, int]]:
    """Log-likelihood of each continuation given its context, and its number of tokens."""
    scores: list[tuple[float, int]] = []
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        ids = [tokenizer(context + text)["input_ids"] for context, text in part]
        skip = [len(tokenizer(context)["input_ids"]) for context, _ in part]
        width = max(map(len, ids))
        # Padding on the right is invisible to the tokens before it under causal attention.
        padded = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids])
        log_probs = model(padded[:, :-1]).logits.float().log_softmax(-1)
        token_scores = log_probs.gather(-1, padded[:, 1:, None])[..., 0]
        for row, first, values in zip(ids, skip, token_scores, strict=True):
            scores.append((values[first - 1 : len(row) - 1].sum().item(), len(row) - first))
    return scores


def accuracy_generation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], contexts: list[str]
) -> float:
    """Share of rows whose greedy answer is exactly right."""
    answers = generate(model, tokenizer, contexts)
    return sum(answer == row["answer"] for answer, row in zip(answers, rows, strict=True)) / len(rows)


def accuracy_choice(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], contexts: list[str], gap: str
) -> float:
    """Share of rows whose right choice has the highest log-likelihood; `gap` stands before it."""
    pairs = [
        (context, f"{gap}{choice}")
        for row, context in zip(rows, contexts, strict=True)
        for choice in row["choices"]  # type: ignore[attr-defined]
    ]
    values = torch.tensor([value for value, _ in score(model, tokenizer, pairs)]).view(len(rows), -1)
    labels = torch.tensor([row["label"] for row in rows])
    return (values.argmax(-1) == labels).float().mean().item()


def accuracy_pairs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], contexts: list[str], end: str
) -> float:
    """Share of pairs of which the text with the grammatical sentence has the lower perplexity per token."""
    texts = [
        ("", f"{context}{row[column]}{end}")
        for row, context in zip(rows, contexts, strict=True)
        for column in ("sentence_a", "sentence_b")
    ]
    means = torch.tensor([value / count for value, count in score(model, tokenizer, texts)]).view(-1, 2)
    labels = torch.tensor([row["label"] for row in rows])
    return (means.argmax(-1) == labels).float().mean().item()


def accuracies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sets: dict[str, list[Row]], in_chats: bool = False
) -> dict[str, float]:
    """Accuracy per task name; `sets` holds the rows of each task."""
    model.eval()
    contexts = {
        name: [chat_context(tokenizer, task, row) if in_chats else task.text(row)[0] for row in sets[name]]
        for name, task in TASKS.items()
    }
    found = {}
    for name in ("arithmetic", "strings"):
        found[name] = accuracy_generation(model, tokenizer, sets[name], contexts[name])
    gap, end = ("", tokenizer.eos_token) if in_chats else (" ", "")
    found["comparison"] = accuracy_choice(model, tokenizer, sets["comparison"], contexts["comparison"], gap)
    found["grammar"] = accuracy_pairs(model, tokenizer, sets["grammar"], contexts["grammar"], end)
    return found


def chat_context(tokenizer: PreTrainedTokenizerBase, task: Task, row: Row) -> str:
    """What a chat model reads of a row before it answers, without BOS, which the tokenizer puts in front by itself."""
    messages = [{"role": "user", "content": chat(task, row)[0]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return str(text).removeprefix(tokenizer.bos_token)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Assert BOS by default, an exact round trip, and one token per character at every boundary."""
    for text in ("Q: 27+45=\nA: 72\n", " two  spaces , a\ttab . n't\n", "ß→ 日本 😀"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert ids[1:] == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert len(ids) == 1 + len(text.encode())


def load_sets(folder: Path) -> dict[str, list[Row]]:
    """The test rows of every task."""
    return {name: read_rows(folder / f"{name}.jsonl") for name in TASKS}


def main() -> None:
    """Print one Markdown table row per saved model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the test sets")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder of the saved models")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    disable_progress_bar()
    sets = load_sets(args.data)
    print(f"| model | asked | parameters | {' | '.join(sets)} |")
    print(f"|---|---|---{'|---' * len(sets)}|")
    for name in (*MODELS, *CHAT_MODELS):
        tokenizer = AutoTokenizer.from_pretrained(args.models / name)
        check_tokenizer(tokenizer)
        model = AutoModelForCausalLM.from_pretrained(args.models / name, dtype=torch.float32)
        for in_chats in (False, True) if tokenizer.chat_template else (False,):
            cells = [f"{100 * value:.1f} %" for value in accuracies(model, tokenizer, sets, in_chats).values()]
            asked = "in chats" if in_chats else "as texts"
            print(f"| {name} | {asked} | {model.num_parameters():,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
