"""Scores of lm-evaluation-harness's tasks, by its rules: filters, metrics per document, aggregations, groups."""

from shardmark.scoring.lm_eval.judge import judge

__all__ = ["judge"]
