"""The replacement of `evaluate.load` for the code of lm-eval's tasks: nothing is fetched from the Hub.

Metrics give the values of Hugging Face evaluate 0.4; code_eval runs programs in the sandbox.
"""

import re
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from shardmark.errors import Problem, UserError, nearest
from shardmark.metrics.repeats import chance
from shardmark.untrusted.limits import bounded

PUNCTUATION: Any = str.maketrans("", "", string.punctuation)
DIGITS: Any = str.maketrans("", "", string.digits)


class CodeEval:
    """pass@k of programs, as in evaluate's metric code_eval; no program runs outside the sandbox."""

    def compute(
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[str],
        k: Sequence[int] = (1, 10, 100),
        num_workers: int = 4,
        timeout: float = 3.0,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """The pass@k for each k with enough programs, and the verdicts by task number.

        `timeout` is in seconds of computing time. Raises UserError if there is no sandbox.
        """
        from shardmark.untrusted.sandbox import Limits, run_programs

        jobs = [
            (program, tests) for programs, tests in zip(predictions, references, strict=True) for program in programs
        ]
        found = iter(run_programs(jobs, Limits(seconds=timeout)))
        verdicts = [[next(found) for _ in programs] for programs in predictions]
        counts = [(len(each), sum(verdict.passed for verdict in each)) for each in verdicts]
        few = min(n for n, _ in counts)
        rates = {
            f"pass@{size}": float(np.mean([1 - chance(n, passed, size, [0]) for n, passed in counts]))
            for size in k
            if few >= size
        }
        results = {
            task: [
                (n, {"task_id": task, "passed": v.passed, "result": v.why or "passed", "completion_id": n})
                for n, v in enumerate(each)
            ]
            for task, each in enumerate(verdicts)
        }
        return rates, results


class Rouge:
    """F-measures of ROUGE by the package rouge-score."""

    def compute(
        self,
        predictions: Sequence[str],
        references: Sequence[Any],
        rouge_types: Sequence[str] = ("rouge1", "rouge2", "rougeL", "rougeLsum"),
        use_aggregator: bool = True,
        use_stemmer: bool = False,
        tokenizer: Any = None,
    ) -> dict[str, Any]:
        """By type: the median of draws of the samples (by NumPy's own random numbers), or the value of each sample."""
        from rouge_score import rouge_scorer, scoring

        scorer = rouge_scorer.RougeScorer(list(rouge_types), use_stemmer, tokenizer=tokenizer)
        score = scorer.score_multi if isinstance(references[0], list) else scorer.score
        scores = [score(reference, answer) for reference, answer in zip(references, predictions, strict=True)]
        if not use_aggregator:
            return {kind: [one[kind].fmeasure for one in scores] for kind in scores[0]}
        aggregator = scoring.BootstrapAggregator()
        for one in scores:
            aggregator.add_scores(one)
        return {kind: found.mid.fmeasure for kind, found in aggregator.aggregate().items()}


class Accuracy:
    """Share of equal labels, which are whole numbers or texts of such."""

    def compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """The share."""
        found, right = _labels(predictions), _labels(references)
        return {"accuracy": float(np.mean(found == right))}


class F1:
    """F1 of labels, which are whole numbers or texts of such; as scikit-learn's f1_score."""

    def compute(
        self, predictions: Sequence[Any], references: Sequence[Any], pos_label: int = 1, average: str = "binary"
    ) -> dict[str, float]:
        """F1 of one label (binary), the mean over labels (macro), or from all labels' counts together (micro)."""
        found, right = _labels(predictions), _labels(references)
        if average == "micro":
            return {"f1": float(np.mean(found == right))}
        labels = {"binary": np.array([pos_label]), "macro": np.union1d(found, right)}[average]
        both = np.array([np.sum((found == label) & (right == label)) for label in labels])
        all_ = np.array([np.sum(found == label) + np.sum(right == label) for label in labels])
        return {"f1": float(np.mean(2 * both / np.maximum(all_, 1)))}


def _labels(labels: Sequence[Any]) -> Any:
    return np.array([int(label) for label in labels])


class ExactMatch:
    """Share of equal texts. NumPy compares, so that each answer in a list is compared with its own right one."""

    def compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        regexes_to_ignore: Sequence[str] | None = None,
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
        ignore_numbers: bool = False,
    ) -> dict[str, float]:
        """The share; the ignored parts of texts are removed first."""

        def plain(texts: Sequence[Any]) -> Any:
            found: Any = np.asarray(texts)
            for ignored in regexes_to_ignore or ():
                with bounded("regexes_to_ignore"):
                    found = np.array([re.sub(ignored, "", text) for text in found])
            found = np.char.lower(found) if ignore_case else found
            found = np.char.translate(found, PUNCTUATION) if ignore_punctuation else found
            return np.char.translate(found, DIGITS) if ignore_numbers else found

        return {"exact_match": float(np.mean(plain(predictions) == plain(references)))}


METRICS: dict[str, Any] = {
    "accuracy": Accuracy(),
    "code_eval": CodeEval(),
    "exact_match": ExactMatch(),
    "f1": F1(),
    "rouge": Rouge(),
}


def load_here(name: str) -> Any:
    """The metric of that name, in place of `evaluate.load`. Raises UserError if it is not available here."""
    if name not in METRICS:
        what = f"the task's code uses the metric {name} of evaluate, which is not available here"
        raise UserError(Problem("lm_eval", name, what, f"leave the task out; {nearest(name, METRICS)}"))
    return METRICS[name]
