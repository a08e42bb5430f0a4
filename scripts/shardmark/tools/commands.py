"""The commands in scripts/ for users, with their purposes."""

TOOLS = {
    "push": ("push.py", "add this run's answers to its store"),
    "pull": ("pull.py", "take this run's answers from its store"),
    "store-status": ("store_status.py", "show what its store has of this run"),
    "audit": ("audit.py", "infer some scored answers again, and compare them"),
    "export": ("export.py", "write the newest report in the formats of other tools"),
    "pack": ("pack.py", "pack everything that this run needs into one archive"),
    "unpack": ("unpack.py", "unpack an archive of pack"),
    "stage": ("stage_run.py", "download and pin what this run needs from the Hub"),
    "preflight": ("preflight.py", "list what is missing here for this run"),
    "relock": ("relock.py", "resolve the names of this configuration again, and show what moved"),
    "list": ("list.py", "list models and data sets"),
    "prompts": ("prompts.py", "show what models are asked"),
    "plan": ("plan.py", "show what would run"),
    "gc": ("garbage.py", "list or remove results that no run needs any more"),
    "verify": ("verify.py", "check that all files are intact"),
}
"Targets of rules/tools.smk, for which the Snakefile makes no plan: the command in scripts/ and its purpose."
OTHERS = {
    "init": ("init.py", "make a folder for your own models, data sets and runs"),
    "new-metric": ("new_metric.py", "begin your own metric or filter, with a test"),
    "certify": ("certify.py", "check whether two models answer alike"),
    "compare": ("compare.py", "compare models of a report, data sets or two reports"),
    "gate": ("gate.py", "check a report against a policy"),
    "interim": ("interim.py", "report what a run has so far"),
    "publish": ("publish.py", "publish a report for others"),
}
"Commands that are not targets: they concern no run, or two, or a running one, or need arguments of their own."
COMMANDS = {**OTHERS, **TOOLS}
