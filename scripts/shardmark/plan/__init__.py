"""The work of a run: identities, shards, costs, and the files that pass between the steps."""

from shardmark.plan.pairs import Pair, score_files
from shardmark.plan.plan import Plan, make_plan

__all__ = ["Pair", "Plan", "make_plan", "score_files"]
