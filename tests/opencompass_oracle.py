"""What OpenCompass asks a base model, by its own configuration: python opencompass_oracle.py CHECKOUT JOB.json OUT.json

A job is a list of {file, abbr, rows, examples}: a file below configs/datasets, the name of one of its data sets (null
for the first), and rows as OpenCompass's loader makes them. The output has for each row the texts asked: one, or one
for each label. Only its configuration, templates and their parser run; all else of it and of mmengine is a dummy.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

REAL = ("opencompass.utils.prompt", "opencompass.utils.types", "opencompass.openicl.icl_prompt_template")
REAL += ("opencompass.models.base", "opencompass.datasets.OlympiadBench")
DUMMIES = ("opencompass", "mmengine", "torch")


class Anything:
    """Stands for whatever is imported and not needed: a decorator, a context, a class of evaluators."""

    def __init__(self, *values: Any, **named: Any) -> None:
        pass

    def __call__(self, *values: Any, **named: Any) -> Any:
        return values[0] if len(values) == 1 and isinstance(values[0], type) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __enter__(self) -> "Anything":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Dummy(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds configuration and templates in the checkout, and makes dummies of all else."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in DUMMIES:
            return None
        place = self.checkout / name.replace(".", "/")
        if name in REAL or (name.startswith("opencompass.configs.") and place.with_suffix(".py").is_file()):
            return importlib.util.spec_from_file_location(name, place.with_suffix(".py"))
        spec = importlib.machinery.ModuleSpec(name, self, is_package=True)
        spec.submodule_search_locations = [str(place)]
        return spec

    def create_module(self, spec: Any) -> ModuleType:
        return Dummy(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def asked(job: dict[str, Any]) -> list[list[str]]:
    """The texts that a data set asks about each row."""
    from opencompass.models.base import LMTemplateParser  # type: ignore[import-not-found]
    from opencompass.openicl.icl_prompt_template import PromptTemplate  # type: ignore[import-not-found]

    name = "opencompass.configs.datasets." + job["file"].removesuffix(".py").replace("/", ".")
    lists = [value for key, value in vars(importlib.import_module(name)).items() if key.endswith("_datasets")]
    everything = [each for found in lists if isinstance(found, list) for each in found]
    config = next(each for each in everything if job["abbr"] in (None, each["abbr"]))
    own = config["infer_cfg"].get("prompt_template", {})
    if "messages" in own:  # sent as they are
        return [["\n".join(each["content"].format(**row) for each in own["messages"])] for row in job["rows"]]
    if own.get("type") == "OlympiadBenchTemplate":
        from opencompass.datasets.OlympiadBench import OlympiadBenchPrompter  # type: ignore[import-not-found]

        keys = ("language", "subject", "question_type", "answer_type", "is_multiple_answer", "unit")
        prompts = [OlympiadBenchPrompter().make_prompt(**{key: row[key] for key in keys}) for row in job["rows"]]
        return [
            [prompt.replace("{problem}", row["question"])] for prompt, row in zip(prompts, job["rows"], strict=True)
        ]
    made = {
        key: PromptTemplate(**{k: v for k, v in config["infer_cfg"][key].items() if k != "type"})
        for key in ("ice_template", "prompt_template")
        if key in config["infer_cfg"]
    }
    output, parse = config["reader_cfg"]["output_column"], LMTemplateParser().parse_template
    shown = [job["examples"][n] for n in config["infer_cfg"]["retriever"].get("fix_id_list", [])]
    examples = _examples(made.get("ice_template"), shown, output)
    template = made.get("prompt_template", made.get("ice_template"))
    if template.prompt_type == "origin" and isinstance(template.template, dict):
        return [
            [parse(template.generate_label_prompt_item(row, examples, label), "ppl") for label in template.template]
            for row in job["rows"]
        ]
    return [
        [parse(template.generate_item(row, output_field=output, ice_field_replace_token=examples), "gen")]
        for row in job["rows"]
    ]


def _examples(template: Any, rows: list[dict[str, Any]], output: str) -> Any:
    """The worked examples, put together as its retrievers do."""
    from opencompass.utils.prompt import PromptList  # type: ignore[import-not-found]

    found = [template.generate_ice_item(row, row[output]) for row in rows]
    separator = "" if template is None or template.prompt_type == "meta" else "\n"
    if not found or not isinstance(found[0], PromptList):
        return separator.join(found) + (separator if found else "")
    examples = PromptList()
    for each in found:
        examples += each + separator
    examples.append(separator)
    return examples


if __name__ == "__main__":
    sys.meta_path.insert(0, Finder(Path(sys.argv[1])))
    jobs = json.loads(Path(sys.argv[2]).read_text("utf-8"))
    Path(sys.argv[3]).write_text(json.dumps([asked(job) for job in jobs]), "utf-8")
