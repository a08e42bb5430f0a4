"""A task's keys with lm-eval's defaults. Keys unknown to lm-eval are refused, as in lm-eval."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from shardmark.config.base import QUOTES, validate
from shardmark.errors import Problem, UserError
from shardmark.settings import Settings
from shardmark.tasks.lm_eval.files import Config, Function, functions
from shardmark.tasks.lm_eval.index import Task

STRUCTURE = ("tag", "group", "task_list")
"Keys that only organize tasks."

OutputType = Literal["multiple_choice", "generate_until", "loglikelihood", "loglikelihood_rolling"]
DEFAULT_GENERATION = {"temperature": 0.0, "do_sample": False, "max_gen_toks": 256}
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"lm-eval's names for the limit of new tokens; the first that is given counts."
NOT_SUPPORTED = {
    "doc_to_image": "prompts with images",
    "doc_to_audio": "prompts with audio",
    "use_prompt": "prompts of the promptsource package",
    "class": "tasks that are a Python class of lm-eval",
}


class FewShotSettings(Settings):
    """The source of examples, and the way they are written; missing settings are those of the task."""

    sampler: Any = "default"
    split: Any = None
    process_docs: Any = None
    fewshot_indices: Any = None
    "Read, but without effect, as in lm-eval."
    samples: Any = None
    doc_to_text: Any = None
    doc_to_choice: Any = None
    doc_to_target: Any = None
    gen_prefix: Any = None
    fewshot_delimiter: Any = None
    target_delimiter: Any = None


class TaskSettings(Settings):
    """The keys of a task; `Function` stands for code to import."""

    task: str
    task_alias: Any = None
    custom_dataset: Any = None
    dataset_path: str | None = None
    dataset_name: Any = None
    dataset_kwargs: dict[str, Any] | None = None
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    process_docs: Any = None
    doc_to_text: Any = None
    doc_to_target: Any = None
    doc_to_image: Any = None
    doc_to_audio: Any = None
    unsafe_code: Any = False
    doc_to_choice: Any = None
    process_results: Any = None
    use_prompt: Any = None
    description: Any = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    fewshot_config: dict[str, Any] | None = None
    num_fewshot: int | None = None
    metric_list: list[dict[str, Any]] | None = None
    output_type: OutputType = "generate_until"
    generation_kwargs: dict[str, Any] | None = None
    repeats: int = Field(1, ge=1)
    filter_list: list[dict[str, Any]] | None = None
    should_decontaminate: Any = False
    doc_to_decontamination_query: Any = None
    gen_prefix: Any = None
    metadata: Any = None

    @property
    def shots(self) -> FewShotSettings:
        """The settings of examples, including those inherited from the task."""
        inherited = ["process_docs", "fewshot_delimiter", "target_delimiter", "gen_prefix"]
        inherited += ("doc_to_text", "doc_to_choice", "doc_to_target")
        values = {"split": self.fewshot_split} | {key: getattr(self, key) for key in inherited}
        return FewShotSettings.model_validate(values | (self.fewshot_config or {}))

    @property
    def generation(self) -> dict[str, Any]:
        """The generation settings, as lm-eval passes them to a model."""
        given = dict(DEFAULT_GENERATION if self.generation_kwargs is None else self.generation_kwargs)
        if "temperature" in given:
            given["temperature"] = float(given["temperature"])
        return {"until": [self.fewshot_delimiter]} | given if "until" not in given else given

    @property
    def eval_split(self) -> str | None:
        """The split that is scored."""
        return self.test_split if self.test_split is not None else self.validation_split

    @property
    def shot_split(self) -> str | None:
        """The split that examples are drawn from, by lm-eval's rule; None if they have a list of their own."""
        shots = self.shots
        if shots.split is not None or shots.samples is not None:
            return shots.split
        given = (split for split in (self.training_split, self.validation_split) if split is not None)
        return next(given, self.test_split)

    def processing(self) -> list[Function]:
        """The functions that turn rows into documents, for the scored split and the split of the examples."""
        found = (self.process_docs, self.shots.process_docs)
        return [function for function in found if isinstance(function, Function)]

    def asking(self) -> list[Function]:
        """The functions that determine the requests."""
        keys = ["custom_dataset", "process_docs", "doc_to_text", "doc_to_target", "doc_to_choice", "description"]
        keys += ("gen_prefix", "fewshot_config", "dataset_kwargs", "generation_kwargs", "metadata")
        return [function for key in keys for function in functions(getattr(self, key))]

    def judging(self) -> list[Function]:
        """The functions that score answers."""
        keys = ("process_results", "metric_list", "filter_list")
        return [function for key in keys for function in functions(getattr(self, key))]


def task_settings(task: Task, num_fewshot: int | None = None, generation: dict[str, Any] | None = None) -> TaskSettings:
    """A task's settings; a number of examples overrides its own unless that is 0, as in lm-eval. Raises UserError.

    `generation` overrides its own settings of these names.
    """
    values: Config = {key: value for key, value in task.config.items() if key not in STRUCTURE}
    problems = [
        Problem(task.file, key, f"{task.name}: {what} are not supported", "leave the task out")
        for key, what in NOT_SUPPORTED.items()
        if values.get(key) is not None
    ]
    if problems:
        raise UserError(problems)
    settings = validate(TaskSettings, values, task.file, problems)
    if settings is None:
        raise UserError(problems)
    problems += _check(settings, task)
    if problems:
        raise UserError(problems)
    shots = settings.num_fewshot or 0
    if num_fewshot is not None and settings.num_fewshot != 0:
        shots = num_fewshot
    changes: dict[str, Any] = {"num_fewshot": shots}
    if generation and settings.output_type == "generate_until":
        own = DEFAULT_GENERATION if settings.generation_kwargs is None else settings.generation_kwargs
        kept = {key: value for key, value in own.items() if not ("max_gen_toks" in generation and key in LENGTHS)}
        changes["generation_kwargs"] = kept | generation
        if problems := _idle(generation, changes["generation_kwargs"], task):
            raise UserError(problems)
    return settings.model_copy(update=changes)


OVERRIDING = ("until", "max_gen_toks", "temperature", "do_sample", "top_k", "top_p")
"The generation settings that a run may set for tasks."


def _idle(given: dict[str, Any], all_kwargs: dict[str, Any], task: Task) -> list[Problem]:
    """A problem for each generation setting of a run that a task does not use."""
    draws = all_kwargs.get("temperature") and all_kwargs.get("do_sample") is not False
    drawn: set[str] = set() if draws else {"top_k", "top_p"}
    return [
        Problem(task.file, f"gen_kwargs.{key}", f"{task.name}: {why}", fix)
        for key in given
        for why, fix in (
            [("tasks of lm-eval have no such setting", "leave it out, or these tasks")] * (key not in OVERRIDING)
            + [("has no effect: nothing is sampled", "set a temperature above 0, too")] * (key in drawn)
        )
    ]


def _check(settings: TaskSettings, task: Task) -> list[Problem]:
    """Problems that lm-eval would only find in the midst of its work."""
    problems: list[Problem] = []
    if settings.fewshot_config is not None:
        validate(FewShotSettings, settings.fewshot_config, task.file, problems)
    if settings.eval_split is None:
        what = f"{task.name} has neither test_split nor validation_split"
        problems.append(Problem(task.file, "test_split", what, "name the split to score"))
    if settings.dataset_path is None and settings.custom_dataset is None:
        problems.append(Problem(task.file, "dataset_path", "is required", "name a data set"))
    problems += _not_text(settings, task)
    needed = ["doc_to_text", "doc_to_target"]
    needed += ["doc_to_choice"] if settings.output_type == "multiple_choice" else []
    for key in needed:
        if getattr(settings, key) is None:
            problems.append(Problem(task.file, key, f"{task.name} needs it", "add it"))
    sampler = settings.shots.sampler if not problems else "default"
    if not isinstance(sampler, Function) and sampler not in ("default", "first_n"):
        problems.append(Problem(task.file, "fewshot_config.sampler", f"there is no {sampler!r}", "default or first_n"))
    return problems


TEXTS = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix", "dataset_name")
"Keys of texts, or of lists of them, that may have other values as well."

FILTERED = ("regex_pattern", "fallback", "regexes_to_ignore")
"Settings of filters and metrics that are texts."


def _not_text(settings: TaskSettings, task: Task) -> Iterator[Problem]:
    """Problems for values that YAML took for something else because they are not in quotes."""
    parts: dict[str, Any] = {key: getattr(settings, key) for key in TEXTS}
    parts |= {f"fewshot_config.{key}": value for key, value in (settings.fewshot_config or {}).items() if key in TEXTS}
    for number, chain in enumerate(settings.filter_list or ()):
        for step, values in enumerate(chain.get("filter") or ()):
            place = f"filter_list.{number}.filter.{step}"
            parts |= {f"{place}.{key}": values[key] for key in FILTERED if values.get(key) is not None}
            parts |= {f"{place}.mapping_dict": list(values.get("mapping_dict") or ())}
    for number, metric in enumerate(settings.metric_list or ()):
        parts |= {f"metric_list.{number}.{key}": metric[key] for key in FILTERED if metric.get(key) is not None}
    for place, value in parts.items():
        key = place.rpartition(".")[2]
        several = list(value.values()) if isinstance(value, dict) else value
        inside = isinstance(several, list)
        for one in several if inside else [] if value is None else [value]:
            if not _is_text(settings, key, one, inside):
                yield Problem(task.file, place, f"{task.name}: {one!r} is a {type(one).__name__}, not text", QUOTES)


def _is_text(settings: TaskSettings, key: str, value: object, in_list: bool) -> bool:
    """Whether a value is allowed for a key: numbers are, if they are those of choices."""
    if isinstance(value, str | Function):
        return True
    numbers = key == "doc_to_text" or (key == "doc_to_target" and (not in_list or settings.doc_to_choice is not None))
    return numbers and isinstance(value, int) and not isinstance(value, bool)
