"""The files of a results folder: one table of their paths, their checks, and the keys that need them.

A path contains the digest of everything its file depends on. So it can be built from names and digests, and they can be
read back from it; the rules, garbage collection and `verify` all use this table, and no other module joins or splits
such paths.
"""

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DIGEST = "[0-9a-f]{16}"
NAMED = f"[^/@]+@{DIGEST}"
FIELDS = {
    "model": NAMED,
    "dataset": "[^/@]+",
    "task": DIGEST,
    "shard": DIGEST,
    "report": NAMED,
    "first": NAMED,
    "second": NAMED,
    "memo": NAMED,
    "weights": DIGEST,
    "config": DIGEST,
    "worker": "[^/]+-[0-9a-f]{8}",
    "host": "[^/]+",
    "process": r"\d+",
    "state": "[^/]+",
    "temporary": r"(.+/)?\.[^/]+\.[a-z0-9_]{8}(/.+)?",
    "version": "(tmp|old)-[^/]+",
    "file": ".+",
}
"""The regular expression of each field of a path.

`model`, `report` and `memo` are name@digest; `task` is the digest of a data set's samples and of how they are scored.
"""

KEYS = {
    "model": "{model}",
    "task": "{dataset}@{task}",
    "request": "{dataset}/{shard}",
    "prediction": "{model}/{dataset}/{shard}",
    "pair": "{model}/{dataset}",
    "score": "{model}/{dataset}@{task}",
    "report": "{report}",
    "memo": "{memo}",
    "weights": "{weights}",
}
"The keys that plans need of a results folder (tools/needs.py), each written with the fields of paths."


def full_name(name: str, digest: str) -> str:
    """The name that the results of a model, data set or run are filed under."""
    return f"{name}@{digest}"


def split_name(full: str) -> tuple[str, str]:
    """The name and the digest in a full name."""
    name, _, digest = full.rpartition("@")
    return name, digest


@dataclass(frozen=True)
class Kind:
    """A kind of files below a results folder."""

    path: str
    "The path of a file, with fields in braces, the form of Snakemake's wildcards."
    label: str
    "The name of this kind of file."
    need: str = ""
    "The key that a plan must need for the file to be needed; empty if no plan needs it."
    check: str = ""
    "The function of tools/checks.py that checks such a file; empty if there is no check."
    always: bool = False
    "Whether it belongs to all runs."
    brief: bool = False
    "Whether one process writes it and soon removes it: while it is young, it may still be wanted."

    def file(self, results: Path | str, **fields: str) -> Path:
        """The path of the file with these fields."""
        return Path(results, self.path.format_map(fields))

    def folder(self, results: Path | str, **fields: str) -> Path:
        """The folder of the files with these fields, which are those of the folder's path."""
        return Path(results, self.path.rpartition("/")[0].format_map(fields))

    def folders(self, results: Path | str, **fields: str) -> list[Path]:
        """The existing folders of such files, sorted, with fields as for `found`."""
        return sorted(path for path in Path(results).glob(self._glob(fields).rpartition("/")[0]) if path.is_dir())

    def below(self, results: Path | str) -> str:
        """The path as rules write it, with wildcards for the fields."""
        return f"{results}/{self.path}"

    def name(self, **fields: str) -> str:
        """The name of the file with these fields, without its folder."""
        return self.path.rpartition("/")[2].format_map(fields)

    def found(self, results: Path | str, **fields: str) -> list[Path]:
        """The existing files, sorted; all of them, or those with some fields, in which `*` matches anything.

        Names with a leading dot are files that are still being written.
        """
        return sorted(path for path in Path(results).glob(self._glob(fields)) if not path.name.startswith("."))

    def parse(self, relative: str) -> dict[str, str] | None:
        """The fields of a path that is relative to the results folder; None if it is of another kind."""
        found = self._pattern.fullmatch(relative)
        return found.groupdict() if found else None

    def fields(self, path: Path) -> dict[str, str]:
        """The fields of the path of such a file in any results folder. Raises ValueError for another kind."""
        found = self._any.fullmatch("/".join(path.parts[-self.path.count("/") - 1 :]))
        if found is None:
            raise ValueError(f"{path} does not match the path of {self.label}: {self.path}")
        return found.groupdict()

    def results(self, path: Path) -> Path:
        """The results folder of a file of this kind."""
        return path.parents[self.path.count("/")]

    def _glob(self, fields: Mapping[str, str]) -> str:
        given = {key: "*".join(map(glob.escape, value.split("*"))) for key, value in fields.items()}
        return self.path.format_map(_Any(given))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return self._regex(FIELDS)

    @cached_property
    def _any(self) -> re.Pattern[str]:
        return self._regex(dict.fromkeys(FIELDS, "[^/]+"))

    def _regex(self, forms: Mapping[str, str]) -> re.Pattern[str]:
        parts = re.split(r"{(\w+)}", self.path)
        fields = [f"(?P<{name}>{forms[name]})" for name in parts[1::2]]
        texts = [re.escape(text) for text in parts[::2]]
        return re.compile("".join(text + field for text, field in zip(texts, [*fields, ""], strict=True)))


class _Any(dict[str, str]):
    """Fields of which missing ones match anything."""

    def __missing__(self, key: str) -> str:
        return "*"


GITKEEP = Kind(".gitkeep", "plans", always=True)

# Files that the plan writes.
TASKS = Kind("tasks/{dataset}@{task}.jsonl", "tasks", "task", "task")
SHARDS = Kind("tasks/{dataset}@{task}.shards.json", "tasks", "task", "sealed_json")
REQUESTS = Kind("requests/{dataset}/{shard}.jsonl", "requests", "request", "requests")
MODELS = Kind("models/{model}.json", "models", "model", "model_record")
DIVISIONS = Kind("plans/divisions/{model}.json", "plans", "model", "sealed_json")
REPORT_INPUTS = Kind("plans/reports/{report}.json", "plans", "report", "sealed_json")
MEMOS = Kind("plans/datasets/{memo}.json", "plans", "memo", "sealed_json")
CONFIGS = Kind("plans/configs/{config}.json", "plans", check="named_by_digest", brief=True)
HASHES = Kind("plans/hashes.json", "plans", check="sealed_json", always=True)
CONTENTS = Kind("plans/contents/{file}", "plans", check="sealed_json", always=True)
CHECKED = Kind("plans/checked.json", "plans", check="sealed_json", always=True)
COSTS = Kind("plans/costs.json", "plans", check="sealed_json", always=True)
CODE = Kind("plans/code.json", "plans", check="sealed_json", always=True)
PINS = Kind("plans/pins.json", "plans", always=True)
NODES = Kind("plans/nodes/{file}", "plans", check="sealed_json", always=True)
CURRENT = Kind("plans/current/{file}", "plans", check="sealed_json", always=True)
STATE = Kind("plans/{state}.json", "plans", always=True)
VEGA = Kind("plans/vega/{file}", "plans", always=True)
LM_EVAL_NAMES = Kind("plans/lm_eval_names/{config}.json", "plans", check="sealed_json", always=True)
LM_EVAL_INDEXES = Kind("plans/lm_eval/{file}", "plans", always=True)
DAMAGED = Kind("damaged/{file}", "damaged files")

# Files that jobs write.
STAGED = Kind("staged/{model}.json", "models", "model", "sealed_json")
CHECKSUMS = Kind("staged/weights/{weights}/checksums.json", "staged weights", "weights", "converted_weights")
WEIGHTS = Kind("staged/weights/{weights}/{file}", "staged weights", "weights")
PREDICTIONS = Kind("predictions/{model}/{dataset}/{shard}.jsonl", "predictions", "prediction", "predictions")
PARTIALS = Kind("predictions/{model}/{dataset}/{shard}.{host}-{process}.partial", "partial files", "prediction")
SCORES = Kind("scores/{model}/{dataset}@{task}.json", "scores", "score", "score")
SAMPLES = Kind("samples/{model}/{dataset}@{task}.jsonl", "samples", "score")
TIMINGS = Kind("timings/{model}/{dataset}@{task}.json", "timings", "score")
SLURM_JOBS = Kind("slurm/{model}.json", "timings", "model", "sealed_json")
CERTIFICATES = Kind("certificates/{first}--{second}.json", "certificates", check="sealed_json", always=True)
REPORTS = Kind("reports/{report}/{file}", "reports", "report")
INTERIM = Kind("interim/{file}", "interim reports", brief=True)
EXPORTS = Kind("exports/{file}", "exports", always=True)
PARTS = Kind("parts/{model}/{dataset}@{task}/{file}", "parts of reports", "score")
SAMPLE_HASHES = Kind("parts/hashes.json", "parts of reports", check="sealed_json", always=True)
UNFINISHED_REPORTS = Kind("reports/{report}.{version}/{file}", "temporary files", brief=True)

INFER_LOGS = Kind("logs/infer/{model}/{dataset}/{shard}.log", "logs", "prediction")
SCORE_LOGS = Kind("logs/score/{model}/{dataset}@{task}.log", "logs", "score")
STAGE_LOGS = Kind("logs/stage_model/{model}.log", "logs", "model")
REPORT_LOGS = Kind("logs/report/{report}.log", "logs", "report")
STEP_LOGS = (INFER_LOGS, SCORE_LOGS, STAGE_LOGS, REPORT_LOGS)
WORKER_LOGS = Kind("logs/workers/{worker}.log", "logs", brief=True)
COMMAND_LOGS = Kind("logs/{state}.log", "logs", always=True)
INFER_BENCHMARKS = Kind("benchmarks/infer/{model}/{dataset}/{shard}.tsv", "benchmarks", "prediction")
SCORE_BENCHMARKS = Kind("benchmarks/score/{model}/{dataset}@{task}.tsv", "benchmarks", "score")
STAGE_BENCHMARKS = Kind("benchmarks/stage_model/{model}.tsv", "benchmarks", "model")
REPORT_BENCHMARKS = Kind("benchmarks/report/{report}.tsv", "benchmarks", "report")

# Files that are written beside their place and renamed, left behind by a process that was killed.
TEMPORARY = Kind("{temporary}", "temporary files", brief=True)

KINDS = [kind for kind in vars().copy().values() if isinstance(kind, Kind)]
"All kinds. A path is of the first kind that it fits."
SCORED = (SCORES, SAMPLES, TIMINGS)
"The files that scoring a pair writes."


def identify(relative: str) -> tuple[Kind, Mapping[str, str]] | None:
    """The kind and the fields of a path relative to the results folder; None if it is none of Shardmark's."""
    for kind in KINDS:
        if (fields := kind.parse(relative)) is not None:
            return kind, fields
    return None
