"""The backend `openai`: an event loop with many requests in flight, run while a caller waits for answers."""

import asyncio
import logging
import math
import os
import re
import resource
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.engine.backend import Backend, Beat
from shardmark.engine.endpoints.answers import Reply
from shardmark.engine.endpoints.asking import MONEY, Asker, Stopped, Unanswered
from shardmark.engine.endpoints.pace import MOST
from shardmark.engine.endpoints.permits import OutOfMoney, Permits, Terms, socket_of
from shardmark.engine.endpoints.predictions import Predictions
from shardmark.engine.endpoints.questions import Question, Questions
from shardmark.engine.transformers.weights import tokenizer_kwargs
from shardmark.errors import Problem, UserError
from shardmark.plan.endpoint_access import read_secrets
from shardmark.plan.endpoints import MAX_COST
from shardmark.processes.imports import without_collection
from shardmark.processes.sockets import run_folder
from shardmark.records.model import ModelRecord, Staged
from shardmark.records.prediction import Part, Prediction
from shardmark.records.request import Request
from shardmark.store.partials import PartialStore
from shardmark.tasks.chat_templates import WordingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEDGER = "money"
"The file in the folder of a run with the money it has spent."
BEAT_SECONDS = 5.0
"Seconds of waiting between signs of life."
OTHER_FILES = 256
"The most files that a worker has open besides its connections."
TOGETHER_SECONDS = 0.005
"Seconds within which answers that arrive close together are handed on together."
LAST_SECONDS = 20.0
"Seconds to wait for the last answers when only the next job will use them."
MOST_FAILURES = 20
"The most requests that may fail, each for a reason of its own, before no more are asked."
SHOWN = 5
"The most requests that a message names."
SPECIAL = re.compile(
    r"<[|｜].+[|｜]>|</?s>|<(bos|eos|pad|unk|start_of_turn|end_of_turn)>|\[(EOS|BOS|PAD|UNK|SEP|CLS)\]"
)
"Stop strings that are special tokens of some model."
log = logging.getLogger(__name__)


class EndpointBackend(Backend):
    """Answers requests by asking an endpoint. The endpoint decides which text is drawn when it samples."""

    def __init__(self, record: ModelRecord, settings: OpenaiConfig, staged: Staged, beat: Beat) -> None:
        """Raises UserError if a key is missing or the tokenizer cannot be loaded."""
        self._record, self._settings, self._beat = record, settings, beat
        self._secrets = read_secrets(settings, record.file)
        self._tokenizer = _tokenizer(record, settings, staged.tokenizer) if staged.tokenizer else None
        self._questions = Questions(settings, self._tokenizer)
        self._predictions = Predictions(settings, self._tokenizer)
        self._results, self._owner = Path("results"), os.getpid()
        self._store: PartialStore | None = None
        self._runner = asyncio.Runner()
        self._asker: Asker | None = None
        self._noted: set[str] = set()
        "Stop strings that have been noted."

    def join(self, results: Path, owner: int) -> None:
        """Observe the rate limits and the budget of a run."""
        self._results, self._owner = results, owner

    def use_store(self, store: PartialStore) -> None:
        """Store parts of answers there."""
        self._store = store

    def answer(self, requests: Mapping[str, Request]) -> Iterator[list[Prediction]]:
        """The predictions of requests by id, as they are answered. Raises UserError naming model and request."""
        questions = self._asked(requests)
        round_ = Round(self, requests, questions)
        try:
            self._runner.run(round_.start(self._store.parts() if self._store else []))
            while not round_.over or round_.done:
                done = self._runner.run(round_.next())
                self._keep(list(round_.loose()))
                if done:
                    yield done
            if round_.error:
                raise round_.error
            if problems := round_.problems():
                raise UserError(problems)
        except (KeyboardInterrupt, UserError):
            if round_.done:  # what has arrived is kept
                yield round_.taken()
            raise
        except GeneratorExit:
            self._see_off(round_)
            raise
        finally:
            self._runner.run(round_.cancel())
            self._keep([*round_.taken(), *round_.loose()])

    def _see_off(self, round_: "Round") -> None:
        """Store answers that are on their way and paid for, when nobody waits for them any more."""
        round_.stop()
        deadline = time.monotonic() + LAST_SECONDS
        while not round_.over and (left := deadline - time.monotonic()) > 0:
            done = self._runner.run(round_.next(left))
            self._keep([*done, *round_.loose()])

    def _keep(self, answers: list[Prediction | Part]) -> None:
        if self._store:
            self._store.append(answers)

    def close(self) -> None:
        """Close the connections."""
        if self._asker:
            self._runner.run(self._asker.close())
        self._runner.close()

    def asker(self) -> Asker:
        """The Asker; created in the event loop when it is first needed."""
        if self._asker is None:
            _allow_files(self._settings.concurrency or MOST)
            permits = Permits(socket_of(self._results), self._terms())
            self._asker = Asker(self._settings, self._secrets, permits, self._tokenizer)
        return self._asker

    def _terms(self) -> Terms:
        settings, most = self._settings, os.environ.get(MAX_COST, "")
        return Terms(
            endpoint=f"{settings.model} at {settings.base_url}",
            concurrency=settings.concurrency,
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            max_cost=round(float(most) * MONEY) if most else None,
            ledger=str(run_folder(self._owner) / LEDGER),
        )

    def _asked(self, requests: Mapping[str, Request]) -> list[Question]:
        """The questions for all requests. Raises UserError with all requests that cannot be asked."""
        questions: list[Question] = []
        failures = Failures(self._record)
        for key, request in requests.items():
            try:
                questions += self._questions.of(key, request)
            except WordingError as error:
                failures.add(key, str(error), "", error.fix)
        if problems := failures.problems():
            raise UserError(problems)
        self._note_stops({string for question in questions for string in question.stop})
        return questions

    def _note_stops(self, strings: set[str]) -> None:
        """Note stop strings that are special tokens: servers leave these out of texts, so they end none."""
        known = set(self._tokenizer.all_special_tokens) if self._tokenizer else set()
        found = {string for string in strings if string in known or SPECIAL.fullmatch(string)} - self._noted
        if found and self._settings.extra_body.get("skip_special_tokens") is not False:
            self._noted |= found
            what = "seem to be special tokens, which endpoints leave out of texts, so they may end no answer"
            fix = "the model's own EOS does; with vLLM or SGLang, extra_body: {skip_special_tokens: false} shows others"
            log.warning("the stop strings %s %s (%s)", ", ".join(map(repr, sorted(found))), what, fix)

    @property
    def most_tasks(self) -> int:
        """The most questions handled at once: those in flight, and those waiting for another try."""
        return 2 * (self._settings.concurrency or MOST) + 32

    def prediction(self, key: str, request: Request, parts: list[tuple[Question, Reply]]) -> Prediction:
        """The prediction of a request whose questions are all answered."""
        return self._predictions.of(key, request, parts)

    @property
    def record(self) -> ModelRecord:
        """The plan's record of the model."""
        return self._record

    def beat(self) -> None:
        """Give a sign of life."""
        self._beat()


class Failures:
    """The reasons why requests were not answered, each once."""

    def __init__(self, record: ModelRecord) -> None:
        self._record = record
        self._found: dict[tuple[str, str, str], list[str]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._found.values())

    def add(self, request: str, what: str, key: str, fix: str) -> None:
        """Note that a request was not answered."""
        self._found[what, key, fix].append(request)

    def problems(self) -> list[Problem]:
        """A problem for each reason, naming the requests."""
        return [
            Problem(self._record.file, key, f"model {self._record.name}, {_named(requests)}: {what}", fix)
            for (what, key, fix), requests in self._found.items()
        ]


def _named(requests: list[str]) -> str:
    names = list(dict.fromkeys(requests))
    more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
    return f"request{'s' * (len(names) > 1)} {', '.join(name[:16] for name in names[:SHOWN])}{more}"


class Round:
    """The requests of one shard in progress."""

    def __init__(self, backend: EndpointBackend, requests: Mapping[str, Request], questions: list[Question]) -> None:
        self._backend, self._requests = backend, requests
        self._questions = questions
        self._todo: Iterator[Question] = iter(())
        self._wanted: dict[str, int] = defaultdict(int)
        for question in questions:
            self._wanted[question.request] += 1
        self._parts: dict[str, dict[int, tuple[Question, Reply]]] = defaultdict(dict)
        self._loose: list[tuple[Question, Reply]] = []
        self._failures = Failures(backend.record)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0.0
        self._money: OutOfMoney | None = None
        self._answered = 0
        self.done: list[Prediction] = []
        "Predictions that are yet to be handed on."
        self.error: BaseException | None = None
        "An unexpected error, for which there is no Problem."

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not self._tasks

    async def start(self, kept: Iterable[Part]) -> None:
        """Begin to ask the questions that the stored parts do not answer."""
        self._wake = asyncio.Event()
        self._asker = self._backend.asker()
        self._asker.start()
        known = {(part.request, part.part, part.of): part.answer for part in kept}
        questions = [question for question in self._questions if not self._is_known(question, known)]
        self._loose.clear()  # they are kept
        self._todo = iter(questions)
        for _ in range(min(len(questions), self._backend.most_tasks)):
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _is_known(self, question: Question, known: dict[tuple[str, int, int], Any]) -> bool:
        """Whether a question was answered before; if so, the answer counts as arrived."""
        place = (question.request, question.part, self._wanted[question.request])
        if place not in known:
            return False
        with suppress(msgspec.ValidationError):
            reply = msgspec.convert(known[place], Reply)
            if (reply.score is None) == (question.row is None):
                self._arrived(question, reply)
                return True
        return False

    def stop(self) -> None:
        """Ask nothing more."""
        self._asker.stop()

    async def next(self, seconds: float = math.inf) -> list[Prediction]:
        """Predictions that have arrived since the last call, after waiting at most `seconds` for something."""
        deadline = time.monotonic() + seconds
        while not (self.done or self._loose or self.over) and (left := deadline - time.monotonic()) > 0:
            self._backend.beat()
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(BEAT_SECONDS, left))
        await asyncio.sleep(max(0.0, self._last + TOGETHER_SECONDS - time.monotonic()))
        self._backend.beat()
        self._last = time.monotonic()
        return self.taken()

    def taken(self) -> list[Prediction]:
        """Predictions that have arrived since the last call."""
        done, self.done = self.done, []
        return done

    def loose(self) -> Iterator[Part]:
        """Parts of incomplete answers that have arrived since the last call."""
        arrived, self._loose = self._loose, []
        for question, reply in arrived:
            if question.request in self._parts:
                of = self._wanted[question.request]
                yield Part(part=question.part, of=of, request=question.request, answer=msgspec.to_builtins(reply))

    async def cancel(self) -> None:
        """Cancel all questions in progress."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def problems(self) -> list[Problem]:
        """The reasons why requests were not answered, as problems."""
        problems = self._failures.problems()
        if self._money:
            problems.append(self._too_dear(self._money))
        return problems

    async def _work(self) -> None:
        """Ask one question after another."""
        for question in self._todo:
            try:
                reply = await self._asker.ask(question)
            except Unanswered as error:
                self._failures.add(question.request, str(error), error.key, error.fix)
                if error.everywhere or len(self._failures) >= MOST_FAILURES:
                    self._asker.stop()
                    return
            except OutOfMoney as error:
                self._money = error
                self._asker.stop()
                return
            except Stopped:
                return
            else:
                self._arrived(question, reply)

    def _arrived(self, question: Question, reply: Reply) -> None:
        key = question.request
        parts = self._parts[key]
        parts[question.part] = (question, reply)
        if len(parts) == self._wanted[key]:
            del self._parts[key]
            self.done.append(self._backend.prediction(key, self._requests[key], [parts[n] for n in sorted(parts)]))
            self._answered += 1
        else:
            self._loose.append((question, reply))
        self._wake.set()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            self.error = self.error or error
            self._asker.stop()

    def _too_dear(self, money: OutOfMoney) -> Problem:
        name = self._backend.record.name
        spent, limit, cost = (f"{value / MONEY:.6g}" for value in (money.spent, money.limit, money.cost))
        what = (
            f"model {name}: {spent} of {limit} has been spent, and the next request may cost up to {cost}; "
            f"{self._answered} of the {len(self._requests)} requests of this job have been answered, and are kept"
        )
        fix = (
            "raise max_cost and run again: only missing requests are asked; a lower max_new_tokens lowers the worst "
            "case"
        )
        return Problem("the run's configuration", "max_cost", what, fix)


def _allow_files(connections: int) -> None:
    """Let this process open enough files for its connections: many systems allow only 1,024 otherwise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (ValueError, OSError):  # the system has a lower limit
            most = soft
        if most < wanted:
            log.warning("a process may have %d files open here (ulimit -n), too few for the concurrency", most)


def _tokenizer(record: ModelRecord, settings: OpenaiConfig, folder: str) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer  # here, since most endpoints need none

    try:
        with without_collection():
            return AutoTokenizer.from_pretrained(folder, **tokenizer_kwargs(settings))
    except Exception as error:  # damaged files, foreign kwargs: whatever it is, the user must know which model
        what = f"model {record.name}: its tokenizer cannot be loaded: {error}"
        raise UserError(Problem(record.file, "tokenizer_path", what, "correct tokenizer_path or kwargs")) from error


def open_backend(record: ModelRecord, staged: Staged, beat: Beat) -> EndpointBackend:
    """The backend of a model behind an endpoint. Raises UserError."""
    if not isinstance(record.settings, OpenaiConfig):
        raise TypeError(f"model {record.name} ({record.settings.backend}) is not behind an endpoint")
    return EndpointBackend(record, record.settings, staged, beat)
