"""The first samples of each data set in the form that models are asked, for reading before a run."""

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, ModelConfig, Named, RunConfig, load, place_of
from shardmark.config.asking import as_asked, chat_wanted
from shardmark.config.dataset import Source
from shardmark.config.merge import Merged
from shardmark.config.yaml_lines import lines_named
from shardmark.errors import Problem, UserError, collecting, nearest
from shardmark.lock.lock import LOCK, Lock
from shardmark.plan.lm_eval import expand, lm_eval_samples
from shardmark.plan.origins import rows_pin
from shardmark.records.request import Context, GenerateRequest, RollingRequest, ScoredRequest
from shardmark.tasks import FileRows, Row, Sample, hub_rows, render, rows_files
from shardmark.tasks.extent import per_task
from shardmark.tasks.lm_eval.select import LmEvalDataset
from shardmark.tasks.requests import as_text
from shardmark.tools.counting import Count, Counter
from shardmark.tools.reading import MARGIN, read_as
from shardmark.tools.visible import LEGEND, visible

Chosen = Named[DatasetConfig] | LmEvalDataset
N = TypeVar("N", Chosen, Named[ModelConfig])


class _Models(NamedTuple):
    """The models of a run, and how much to show of what they read."""

    counters: list[Counter]
    tokens: bool

    def read(self, context: Context, continuation: Context | None = None, new_tokens: int = 0) -> Iterator[str]:
        """Lines on how they read a prompt, or a continuation after it."""
        return read_as(self.counters, context, continuation, new_tokens, self.tokens)


def show_prompts(
    run: Merged, root: Path, wanted: list[str], count: int, models: Sequence[str] = (), tokens: bool = False
) -> Iterator[str]:
    """The lines to print for `count` samples of each data set of a run whose name matches `wanted`, or of all.

    Reports how all models in the run read them, or those that match one of `models`; `tokens` also lists tokens' ids
    and texts. Nothing is written and no weights are read; the Hub is only asked for what is in neither lock nor cache.
    Raises UserError with all problems of the configuration, and for rows that are unavailable or cannot be rendered.
    """
    problems: list[Problem] = []
    if count < 1:
        problems.append(Problem("--samples", "", f"{count} is not a number of samples", "give a number from 1"))
    benchmark = load(run.config, root, run.where, problems, run.command_line)
    tasks = expand(benchmark, place_of("lm_eval_path", run.where, run.command_line), problems)
    all_datasets: list[Chosen] = [*benchmark.datasets, *tasks]
    datasets = _chosen(all_datasets, wanted, "--datasets", "data set", problems)
    asked = _chosen(benchmark.models, models, "--models", "model", problems)
    if problems:
        raise UserError(problems)
    lock = Lock(root / LOCK, benchmark.run.frozen, kept=layout.PINS.file(benchmark.run.results))
    readers = _Models(_counters(benchmark, asked, lock), tokens)
    lines: list[str] = []
    with lines_named(root):
        for dataset in datasets:
            with collecting(problems):
                lines += _dataset(dataset, benchmark, lock, readers, count)
        if problems:
            raise UserError(problems)
    yield from lines
    yield from (f"{symbol} is {meaning}" for symbol, meaning in LEGEND.items() if any(symbol in line for line in lines))


def _chosen(named: Sequence[N], wanted: Sequence[str], option: str, what: str, problems: list[Problem]) -> list[N]:
    names = {each.name for each in named}
    problems += [
        Problem(option, "", f"no {what} of this run matches {pattern}", nearest(pattern, names))
        for pattern in wanted
        if not fnmatch.filter(names, pattern)
    ]
    return [each for each in named if any(fnmatch.fnmatchcase(each.name, pattern) for pattern in wanted or ["*"])]


def _counters(benchmark: Benchmark, models: list[Named[ModelConfig]], lock: Lock) -> list[Counter]:
    results = Path(benchmark.run.results)
    pins = {key[2]: str(lock.get(key)) for key in lock.known if key[:2] == ("hub", "model")}
    return [Counter(model, results, pins) for model in models]


def _dataset(dataset: Chosen, benchmark: Benchmark, lock: Lock, models: _Models, count: int) -> Iterator[str]:
    """The requests to the models, separately for those asked in chats and in texts."""
    ways: dict[bool, list[Counter]] = {}
    settings = dataset.config if isinstance(dataset, LmEvalDataset) else dataset.settings
    for counter in models.counters:
        wanted = chat_wanted(benchmark.run, settings, counter.settings)
        ways.setdefault(counter.has_template if wanted == "auto" else wanted, []).append(counter)
    for chat, counters in ways.items():
        asked = models._replace(counters=counters)
        if isinstance(dataset, LmEvalDataset):
            yield from _lm_eval(dataset.asked(chat), benchmark, lock, asked, count)
        else:
            yield from _own(dataset, chat, benchmark, lock, asked, count)


def _own(
    dataset: Named[DatasetConfig], chat: bool, benchmark: Benchmark, lock: Lock, models: _Models, count: int
) -> Iterator[str]:
    run = benchmark.run
    settings = as_asked(dataset.settings, run, chat, dataset.file)
    rows, origin = _rows(settings.source, dataset.file, "source", run.data_root, lock)
    examples: Iterator[Row] = iter(())
    if source := settings.example_source():
        examples, _ = _rows(source, dataset.file, "few_shot.source", run.data_root, lock)
    few = settings.few_shot
    shots = (few.count or len(few.ids or few.examples or ())) if few else 0
    yield f"== {dataset.name}: {settings.kind}, {shots} shot{'s' * (shots != 1)}, {dataset.file}, rows of {origin}"
    for sample in render(settings, rows, dataset.file, _first(run, count), examples):
        yield from _sample(dataset.name, sample, models)
    yield ""


def _rows(source: Source, where: str, key: str, data_root: str | None, lock: Lock) -> tuple[Iterator[Row], str]:
    """The rows of a source, and their origin."""
    paths = rows_files(source, data_root, where, key)
    if paths:
        return iter(FileRows(paths, source)), ", ".join(map(str, paths))
    commit = lock.commit("dataset", str(source.hub), source.revision, where)
    return iter(hub_rows(source, commit, where, rows_pin(source, commit, lock))), f"{source.hub}@{commit}"


def _lm_eval(dataset: LmEvalDataset, benchmark: Benchmark, lock: Lock, models: _Models, count: int) -> Iterator[str]:
    yield f"== {dataset.name}: {dataset.kind}, {len(dataset.tasks)} task(s) of lm-eval in {dataset.root}"
    for sample in lm_eval_samples(dataset, benchmark.run, lock, _first(benchmark.run, count)):
        yield from _sample(dataset.name, sample, models)
    yield ""


def _first(run: RunConfig, count: int) -> int:
    """How many samples to show: no more than the run asks, if its limit is a number."""
    limit = per_task(run.limit)
    return min(count, limit) if isinstance(limit, int) else count


def _sample(name: str, sample: Sample, models: _Models) -> Iterator[str]:
    for turn, asked in enumerate(sample.rotations):
        yield ""
        yield f"-- {name}, sample {sample.id}" + f", options rotated by {turn}" * bool(turn)
        match asked.request:
            case GenerateRequest() as request:
                yield from _generation(asked, request, models)
            case request:
                yield from _scored(asked, request, models)


def _generation(sample: Sample, request: GenerateRequest, models: _Models) -> Iterator[str]:
    context = request.context
    yield from _text("prompt", as_text(context), [(c.name, c.prompt(context)) for c in models.counters])
    yield from models.read(context, new_tokens=request.max_new_tokens)
    stop = ", ".join(map(repr, request.stop)) or "nothing else"
    yield f"at most {request.max_new_tokens} new tokens; stops before: {stop}"
    targets = sample.target if isinstance(sample.target, list) else [sample.target]
    yield f"target: {' or '.join(map(repr, targets))}"


def _scored(sample: Sample, request: ScoredRequest, models: _Models) -> Iterator[str]:
    if isinstance(request, RollingRequest):
        text = request.text
        yield from _text("text", text, [(counter.name, counter.prompt(text)) for counter in models.counters])
        return
    pairs = request.pairs
    targets = sample.target if isinstance(sample.target, list) else [sample.target]
    contexts = {as_text(context) for context, _ in pairs}
    shared = len(contexts) == 1 and contexts != {""}
    if shared:
        yield from _text("prompt", as_text(pairs[0][0]), [])
        yield from models.read(pairs[0][0])
    for number, (context, continuation) in enumerate(pairs):
        if context and not shared:
            yield from _text(f"prompt of choice {number}", as_text(context), [])
            yield from models.read(context)
        counts = [(counter.name, counter.pair(context, continuation)) for counter in models.counters]
        what = f"choice {number}" + ", prompt and all" * (not context) + " (the target)" * (number in targets)
        yield from _text(what, as_text(continuation), counts, " with the prompt" * bool(context))
        yield from models.read(context, continuation)
    known = sample.choices or []
    named = [f"{target} ({known[int(target)]!r})" if target in range(len(known)) else str(target) for target in targets]
    yield f"target: {' or '.join(named)}"


def _text(what: str, text: str, counts: list[tuple[str, Count]], of: str = "") -> Iterator[str]:
    """A text after a margin, under its length in characters and tokens; `of` names what else they count."""
    yield f"{what}: {len(text):,} characters" + "".join(f"; {part}" for part in _tokens(counts, of))
    yield from (MARGIN + line for line in visible(text).split("\n"))


def _tokens(counts: list[tuple[str, Count]], of: str) -> Iterator[str]:
    """The number of tokens for each model; models that agree are named together."""
    by_count: dict[Count, list[str]] = {}
    for name, number in counts:
        by_count.setdefault(number, []).append(name)
    for number, names in by_count.items():
        yield f"{number} tokens{of} for {', '.join(names)}"
