"""Plan what each model is asked: every data set of a run, as a chat or as text."""

from collections.abc import Callable
from pathlib import Path

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig
from shardmark.config.asking import chat_wanted
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.errors import Problem, UserError, collecting
from shardmark.lock.lock import Lock
from shardmark.plan.chats import wording_problems
from shardmark.plan.context_lengths import window_problems
from shardmark.plan.cost import Costs
from shardmark.plan.datasets import PlannedDataset
from shardmark.plan.endpoints import answer_problems, endpoint_notes, endpoint_problems
from shardmark.plan.kinds import kind_problems
from shardmark.plan.pairs import ModelPairs, Pair
from shardmark.plan.rescore import recorded_template
from shardmark.plan.shared_answers import SharedAnswers
from shardmark.plan.template_lookup import has_template
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import ModelRecord
from shardmark.store.hashes import CheckedFiles

Maker = tuple[str, DatasetConfig | LmEvalConfig, Callable[[bool], PlannedDataset]]
"A data set's name and settings, and what plans it: in chats (true) or in texts (false)."


class PairPlanner:
    """The pairs of a run's models with the data sets so far, and the memos that planning them keeps."""

    def __init__(self, models: list[ModelRecord], benchmark: Benchmark) -> None:
        results = Path(benchmark.run.results)
        self.run = benchmark.run
        self.results = results
        self.warnings: list[Problem] = []
        self.datasets: list[DatasetRecord] = []
        self.pairs: list[Pair] = []
        self.costs = Costs(results)
        self.checked = CheckedFiles(layout.CHECKED.file(results))
        asks_store = self.run.store and not self.run.rescore
        self.shared = SharedAnswers(self.run, self.warnings.append) if asks_store else None
        self.parts = [
            ModelPairs(model, self.run, self.costs, self.checked, self.warnings.append, self.shared) for model in models
        ]
        self._asked: dict[str, list[DatasetRecord]] = {model.full_name: [] for model in models}

    def plan_dataset(self, maker: Maker, lock: Lock, problems: list[Problem]) -> None:
        """Plan a data set as its models are asked it, and, as long as there are no problems, its pairs."""
        name, settings, make = maker
        for chat, parts in self._by_form(settings, lock).items():
            planned = make(chat)
            self.datasets.append(planned.record)
            remarks = [Problem(planned.record.file, name, remark) for remark in planned.record.remarks]
            self.warnings += [remark for remark in remarks if remark not in self.warnings]
            self.pairs += [part.pair(planned) for part in parts] if not problems else []
            for part in parts:
                self._asked[part.model.full_name].append(planned.record)

    def model_problems(self, model: ModelRecord, root: Path, lock: Lock, already: bool) -> list[Problem]:
        """What keeps a model from answering what it is asked; `already` says that the run has other problems."""
        asked = self._asked[model.full_name]
        found, notes = wording_problems(model, asked, self.results, lock)
        self.warnings += notes
        found = [*found, *window_problems([model], asked), *kind_problems([model], asked, root)]
        if model.settings.elsewhere:
            found += endpoint_problems(model, asked, self.run.max_cost is not None)
            left = any(pair.requests for pair in self.pairs if pair.model is model)
            self.warnings += endpoint_notes(model)
            found += answer_problems(model) if left or already or found else []
        return found

    def _by_form(self, dataset: DatasetConfig | LmEvalConfig, lock: Lock) -> dict[bool, list[ModelPairs]]:
        """The models that are asked a data set in chats (true), and those asked in texts (false). Raises UserError."""
        found: dict[bool, list[ModelPairs]] = {}
        problems: list[Problem] = []
        for part in self.parts:
            with collecting(problems):
                wanted = chat_wanted(self.run, dataset, part.model.settings)
                known = recorded_template if self.run.rescore else has_template
                chat = known(part.model, part.results, lock) if wanted == "auto" else wanted
                found.setdefault(chat, []).append(part)
        if problems:
            raise UserError(problems)
        return found or {chat_wanted(self.run, dataset, None) is True: []}

    def save(self) -> None:
        """Save measurements, checks and decisions."""
        self.costs.save()
        self.checked.save()
        for part in self.parts:
            part.divisions.save()
