"""What must run: identities, shards, costs, and the files that pass between the steps."""

from shardmark.plan.plan import Outlook, Plan, make_plan, model_file, outlook, report_inputs, score_files

__all__ = ["Outlook", "Plan", "make_plan", "model_file", "outlook", "report_inputs", "score_files"]
