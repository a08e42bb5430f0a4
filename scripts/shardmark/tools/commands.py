"""The commands in scripts/ for users, with their purposes."""

TOOLS = {
    "push": ("push.py", "put this run's answers into its store"),
    "pull": ("pull.py", "take what its store knows of this run"),
    "store-status": ("store_status.py", "what does its store know of this run?"),
    "audit": ("audit.py", "are answers that were scored given again?"),
    "export": ("export.py", "the newest report in the formats of others"),
    "pack": ("pack.py", "all that this run needs, in one archive"),
    "unpack": ("unpack.py", "put what an archive has to its places"),
    "stage": ("stage_run.py", "fetch and pin what this run needs from the Hub"),
    "preflight": ("preflight.py", "what is missing here for this run?"),
    "relock": ("relock.py", "what does this configuration resolve to now?"),
    "list": ("list.py", "which models and data sets are there?"),
    "prompts": ("prompts.py", "what are the models asked?"),
    "plan": ("plan.py", "what would run?"),
    "gc": ("garbage.py", "which results does no run need any more?"),
    "verify": ("verify.py", "are all files what they were written as?"),
}
"Targets of rules/tools.smk, for which the Snakefile makes no plan: the command in scripts/ and its purpose."
OTHERS = {
    "init": ("init.py", "make a folder for models, data sets and runs of your own"),
    "new-metric": ("new_metric.py", "begin a metric or filter of your own, with a test"),
    "certify": ("certify.py", "does a model answer as another does?"),
    "compare": ("compare.py", "how do models of a report differ, and what has changed?"),
    "gate": ("gate.py", "does a report pass a policy?"),
    "interim": ("interim.py", "what does a run have so far?"),
    "publish": ("publish.py", "put a report where others see it"),
}
"Commands that are not targets: they concern no run, or two, or a running one, or need arguments of their own."
COMMANDS = {**OTHERS, **TOOLS}
