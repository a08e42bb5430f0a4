"""Accuracy of the demo models on the four test sets, and a check of their tokenizer."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from generators import ANSWER_END, TASKS, Row, question_prompt, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).parent
MODELS = ("large", "medium", "small")
NEW_TOKENS = 14
BATCH = 256


@torch.inference_mode()
def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[str]:
    """Greedy answers, cut at the first newline and stripped of the leading space."""
    # Prompts of equal length share a batch, so that no padding can influence the result.
    by_length: dict[int, list[int]] = defaultdict(list)
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    for index, ids in enumerate(encoded):
        by_length[len(ids)].append(index)
    answers = [""] * len(prompts)
    for length, indices in by_length.items():
        ids = torch.tensor([encoded[index] for index in indices])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)
        for index, row in zip(indices, out[:, length:], strict=True):
            answers[index] = tokenizer.decode(row, skip_special_tokens=True).split(ANSWER_END)[0].strip()
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
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], questions: list[str]
) -> float:
    """Share of rows whose greedy answer is exactly right."""
    answers = generate(model, tokenizer, [question_prompt(question) for question in questions])
    return sum(answer == row["answer"] for answer, row in zip(answers, rows, strict=True)) / len(rows)


def accuracy_choice(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> float:
    """Share of rows whose right choice has the highest log-likelihood."""
    pairs = [
        (question_prompt(str(row["question"])), f" {choice}")
        for row in rows
        for choice in row["choices"]  # type: ignore[attr-defined]
    ]
    values = torch.tensor([value for value, _ in score(model, tokenizer, pairs)]).view(len(rows), -1)
    labels = torch.tensor([row["label"] for row in rows])
    return (values.argmax(-1) == labels).float().mean().item()


def accuracy_pairs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> float:
    """Share of pairs whose grammatical sentence has the lower perplexity per token."""
    sentences = [("", str(row[column])) for row in rows for column in ("sentence_a", "sentence_b")]
    means = torch.tensor([value / count for value, count in score(model, tokenizer, sentences)]).view(-1, 2)
    labels = torch.tensor([row["label"] for row in rows])
    return (means.argmax(-1) == labels).float().mean().item()


def accuracies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sets: dict[str, list[Row]]
) -> dict[str, float]:
    """Accuracy per task name; `sets` holds the rows of each task."""
    model.eval()
    arithmetic, strings = sets["arithmetic"], sets["strings"]
    return {
        "arithmetic": accuracy_generation(model, tokenizer, arithmetic, [str(row["question"]) for row in arithmetic]),
        "strings": accuracy_generation(
            model, tokenizer, strings, [f"{row['task']}: {row['input']}" for row in strings]
        ),
        "comparison": accuracy_choice(model, tokenizer, sets["comparison"]),
        "grammar": accuracy_pairs(model, tokenizer, sets["grammar"]),
    }


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
    print(f"| model | parameters | {' | '.join(sets)} |")
    print(f"|---|---{'|---' * len(sets)}|")
    for name in MODELS:
        tokenizer = AutoTokenizer.from_pretrained(args.models / name)
        check_tokenizer(tokenizer)
        model = AutoModelForCausalLM.from_pretrained(args.models / name, dtype=torch.float32)
        cells = [f"{100 * value:.1f} %" for value in accuracies(model, tokenizer, sets).values()]
        print(f"| {name} | {model.num_parameters():,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
