"""Ask two models the same requests of a run's data sets, and certify how far they agree.

For instance, the same weights in two backends whose scores are to share a leaderboard. Each model is asked everything
in one shard, and again in small shards: where these answers differ, they depend on batching or order.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shardmark import layout
from shardmark.config.merge import Merged
from shardmark.errors import Problem, UserError
from shardmark.files import digest, pretty_json, sealed, write_whole
from shardmark.plan.endpoints import use_max_cost
from shardmark.plan.plan import Plan
from shardmark.records.base import find_sealed, read_sealed_record, to_json
from shardmark.records.certificate import Agreement, Certificate, Party
from shardmark.records.model import ModelRecord, Staged
from shardmark.records.prediction import Prediction
from shardmark.records.request import Request
from shardmark.records.shard import ShardLists
from shardmark.records.trailer import Trailer
from shardmark.scoring.agreement import Tokens, agreement
from shardmark.store.predictions import check_predictions, read_predictions
from shardmark.store.requests import read_requests
from shardmark.tools.asking import answer
from shardmark.tools.counting import Tokenizer
from shardmark.tools.planned import plan_run, without_store

REQUESTS = 300
"How many requests are asked by default, over all data sets together."
PARTS = 16
"The number of shards into which they are divided when they are asked again."


def certify(run: Merged, models: list[str], root: Path, count: int = REQUESTS) -> tuple[Path, Certificate]:
    """Ask two models `count` requests of the run's data sets; returns the certificate and its file.

    Requests that were answered before an interruption are not asked again. Raises UserError.
    """
    if len(set(models)) != 2 or count < 1:
        what = f"a certificate needs two models and at least one request (given: {', '.join(models)}; {count})"
        raise UserError(Problem("--models", "", what, "name two: --models A B"))
    wanted = replace(run, config=run.config | {"models": models}, command_line=run.command_line | {"models"})
    use_max_cost(run.config)
    plan = plan_run(without_store(wanted), root, local=True, dry=False)
    asked, datasets = chosen_requests(plan, count)
    first, second = (_Asking(model, plan.results) for model in plan.models)
    answers = [first.all(asked), second.all(asked)]
    tokens = first.tokens() or second.tokens()
    certificate = Certificate(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        datasets=datasets,
        parties=(
            first.party(agreement(answers[0].predictions, first.apart(asked), tokens), answers[0].trailers),
            second.party(agreement(answers[1].predictions, second.apart(asked), tokens), answers[1].trailers),
        ),
        between=agreement(answers[0].predictions, answers[1].predictions, tokens),
    )
    names = [model.full_name for model in plan.models]
    path = layout.CERTIFICATES.file(plan.results, first=names[0], second=names[1])
    write_whole(path, pretty_json(sealed(to_json(certificate))))
    return path, certificate


def chosen_requests(plan: Plan, count: int) -> tuple[dict[str, Request], dict[str, int]]:
    """Requests that both models of a plan are asked, equally many from each data set; and how many from each.

    They are those with the lowest ids, which are hashes: as good as random, and the same next time. Raises UserError.
    """
    first, second = plan.models
    shared = {pair.dataset.full_name for pair in plan.pairs if pair.model is second}
    datasets = [pair.dataset for pair in plan.pairs if pair.model is first and pair.dataset.full_name in shared]
    if not datasets:
        what = f"{first.name} and {second.name} are asked no data set in the same way: one in chats, the other as texts"
        raise UserError(Problem("--models", "", what, "set apply_chat_template for both"))
    each = -(-count // len(datasets))
    asked: dict[str, Request] = {}
    counts: dict[str, int] = {}
    for dataset in datasets:
        lists = read_sealed_record(
            layout.SHARDS.file(plan.results, dataset=dataset.name, task=dataset.digest), ShardLists
        )
        found: dict[str, Request] = {}
        for shard in next(iter(lists.levels.values())):
            found |= read_requests(layout.REQUESTS.file(plan.results, dataset=dataset.name, shard=shard.name))
        taken = sorted(found)[:each]
        asked |= {key: found[key] for key in taken}
        counts[dataset.name] = len(taken)
    return asked, counts


class Answers(NamedTuple):
    """A model's answers."""

    predictions: dict[str, Prediction]
    trailers: list[Trailer]


class _Asking:
    """Asks one model with workers of this process."""

    def __init__(self, record: ModelRecord, results: Path) -> None:
        self.record, self.results = record, results
        self.staged = layout.STAGED.file(results, model=record.full_name)

    def all(self, asked: Mapping[str, Request]) -> Answers:
        """The answers to all requests in one shard of each kind."""
        return self._answers(
            "all", ([key for key, each in asked.items() if each.kind == kind] for kind in _kinds(asked)), asked
        )

    def apart(self, asked: Mapping[str, Request]) -> dict[str, Prediction]:
        """The answers to the same requests in small shards."""
        parts = [
            keys[n::PARTS]
            for kind in _kinds(asked)
            for keys in [sorted(key for key, each in asked.items() if each.kind == kind)]
            for n in range(min(PARTS, len(keys)))
        ]
        return self._answers("apart", parts, asked).predictions

    def _answers(self, name: str, shards: Iterable[list[str]], asked: Mapping[str, Request]) -> Answers:
        predictions: dict[str, Prediction] = {}
        trailers = []
        for keys in shards:
            path = self._answered(f"_certificate_{name}", {key: asked[key] for key in sorted(keys)})
            found, trailer = read_predictions(path)
            predictions |= found
            trailers.append(trailer)
        return Answers(predictions, trailers)

    def _answered(self, dataset: str, asked: dict[str, Request]) -> Path:
        """The prediction file of a shard, which is made if it is missing."""
        out = layout.PREDICTIONS.file(
            self.results, model=self.record.full_name, dataset=dataset, shard=digest(list(asked))
        )
        if not _is_whole(out):
            answer(self.record, self.results, asked, out)
        return out

    def tokens(self) -> Tokens | None:
        """The model's tokenizer, if it is a tokenizer.json on this machine."""
        staged = find_sealed(self.staged, Staged)
        folder = Path(staged.tokenizer) if staged and staged.tokenizer else None
        if folder is None or not (folder / "tokenizer.json").is_file():
            return None
        tokenizer = Tokenizer(folder, self.record.wording)
        return lambda text: tokenizer.encode(text, add_special_tokens=False)

    def party(self, apart: Agreement, trailers: list[Trailer]) -> Party:
        """The certificate's entry about one model."""
        packages = {name: version for trailer in trailers for name, version in trailer.packages.items()}
        return Party(
            name=self.record.name,
            digest=self.record.digest,
            backend=self.record.settings.backend,
            source=self.record.settings.place,
            packages=packages,
            hardware=trailers[0].hardware,
            apart=apart,
        )


def _kinds(asked: Mapping[str, Request]) -> list[str]:
    return sorted({request.kind for request in asked.values()})


def _is_whole(out: Path) -> bool:
    try:
        check_predictions(out)
    except (UserError, FileNotFoundError):
        return False
    return True


def tables(certificate: Certificate) -> Iterator[Table]:
    """Tables of a certificate: log-likelihoods, then texts."""
    first, second = certificate.parties
    rows = [(f"{first.name}, {second.name}", certificate.between)]
    rows += [(f"{party.name}, again in other batches", party.apart) for party in certificate.parties]
    columns = ("requests", "choices", "largest difference", "mean", "99%", "same best choice")
    scored = Table("log-likelihoods of", *columns, box=SIMPLE_HEAD, pad_edge=False)
    written = Table("texts of", "texts", "equal", "first difference", "median", box=SIMPLE_HEAD, pad_edge=False)
    for name, found in rows:
        if each := found.scoring:
            differences = (f"{number:.2g}" for number in (each.largest, each.mean, each.percentile))
            scored.add_row(name, f"{each.requests:,}", f"{each.choices:,}", *differences, f"{each.same_best:,}")
        if text := found.writing:
            places = (f"{text.unit} {place:.0f}" if place is not None else "" for place in (text.first, text.median))
            written.add_row(name, f"{text.requests:,}", f"{text.equal:,}", *places)
    yield from (table for table in (scored, written) if table.row_count)
