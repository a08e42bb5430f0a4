"""Generation with continuous batching: rows join a running batch, get a token per step, and leave when they end."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

from shardmark.engine.batches import Limit, OutOfMemoryError, is_out_of_memory
from shardmark.engine.prefixes import Prefix, shared_prefixes
from shardmark.engine.sampling import GREEDY, Sampling, choose, generator, largest
from shardmark.engine.stops import StopFinder, text_and_end
from shardmark.engine.thoughts import ThoughtLimits, ThoughtWatch, marks_in, thought_tokens
from shardmark.records.prediction import Frame, Mark
from shardmark.texts.thoughts import Tags

log = logging.getLogger(__name__)

WAITING_SHARE = 8
"New rows are prefilled when one in this many places of the batch is free: singly, each would take a pass."


@dataclass(frozen=True)
class GenerateRow:
    """A tokenized prompt, with the limits of its continuation and the way its tokens are chosen."""

    inputs: list[int]
    max_new_tokens: int
    stop: list[str]
    cut: int = 0
    "Tokens that were dropped on the left because the window is too short."
    sampling: Sampling = GREEDY
    request: str = ""
    "The id of the request; together with `sample` it is the seed."
    sample: int = 0
    "The number of the sample among the request's samples, from 0."
    opened: str = ""
    "The opening mark of a thought at the end of the prompt, such as <think>."
    sent: tuple[Frame, ...] = ()
    "The frame of the prompt, if it is a chat."
    tags: Tags | None = None
    "The marks of thoughts given in the model's file."
    thoughts: ThoughtLimits | None = None
    "Limits of thoughts, if the model's file sets any: stop strings are then only looked for after the thoughts."
    seconds: float | None = None
    "The most seconds of generation."
    ends: tuple[int, ...] = ()
    "Tokens that end it, in addition to the model's."

    @property
    def length(self) -> int:
        """The most tokens that it may come to have."""
        return len(self.inputs) + self.max_new_tokens


class Answer(NamedTuple):
    """The text generated for a row."""

    text: str
    "The text up to the first stop string, without special tokens."
    tokens: int
    "Tokens up to the one that completed a stop string, without the end-of-text token."
    end: str
    "stop, eos, length, time, or nan if the model's output was not finite."
    thought: int = 0
    "Tokens of thoughts, including marks."
    marks: tuple[Mark, ...] = ()
    "The special tokens that mark thoughts in the text."


class Batch(Protocol):
    """The rows that a model is generating for. ContinuousBatch is one implementation; tests have a simpler one."""

    rows: list["RunningRow"]

    @property
    def shared_tokens(self) -> int: ...
    def join(self, rows: Sequence["RunningRow"], tokens: int | None = None) -> None: ...
    def decode_step(self) -> torch.Tensor: ...
    def leave(self, gone: Sequence[int]) -> None: ...
    def drop_prefix(self, prefix: Prefix) -> None: ...
    def clear(self) -> None: ...


@dataclass(eq=False)
class RunningRow:
    """A row with the tokens generated for it so far."""

    row: GenerateRow
    tokenizer: Any
    ends: Sequence[int]
    "Tokens that end a text."
    prefix: Prefix | None = None
    generated: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ends = [*self.ends, *self.row.ends]
        self.sequence = list(self.row.inputs)
        self.max_length = self.row.length
        self._finder = StopFinder(self.tokenizer, self.row.stop)
        limits = self.row.thoughts
        self._watch = ThoughtWatch(self.tokenizer, limits, bool(self.row.opened)) if limits else None
        self._due: deque[int] = deque()
        self._began: float | None = None
        self._numbers = generator(self.row.request, self.row.sample) if self.row.sampling.temperature > 0 else None
        self._number: float | None = None

    @property
    def barred(self) -> Sequence[int]:
        """Tokens that must not come next."""
        return self.ends if len(self.generated) < self.row.sampling.min_new_tokens else ()

    @property
    def takes_largest(self) -> bool:
        """Whether its next token is the one with the largest logit, or a due one."""
        return self._numbers is None and not self.barred

    @property
    def own_length(self) -> int:
        """The most tokens that it may come to have besides its shared prefix."""
        return self.max_length - (self.prefix.end if self.prefix else 0)

    def draw(self) -> float | None:
        """The uniform number of a row that samples, kept until a token is taken: running out of memory uses none up."""
        if self._number is None and self._numbers is not None:
            self._number = float(self._numbers.random())
        return self._number

    @property
    def due(self) -> int | None:
        """The token that must come next: part of the mark that closes a thought whose budget is used up."""
        return self._due[0] if self._due else None

    def take(self, token: int, finite: bool) -> Answer | None:
        """The answer if it ends with this next token, else None."""
        self._number = None
        if not finite:
            return Answer("", len(self.generated), "nan")
        if token in self.ends and not self._due:
            return self._answer("eos")
        self.generated.append(token)
        self.sequence.append(token)
        if self._searches(token) and self._stopped()[1]:
            return self._answer("stop")
        unused = self._watch.unused if self._watch else 0
        if len(self.generated) + unused >= self.row.max_new_tokens:
            return self._answer("length")
        return self._answer("time") if self._late() else None

    def _searches(self, token: int) -> bool:
        """Whether a stop string may be complete with this token. Within a thought, none is looked for."""
        watch = self._watch
        if watch is None:
            return self._finder.push(token)
        thinking = watch.thinking
        watch.push(token)
        if self._due:
            self._due.popleft()
            if not self._due:
                watch.close()
        elif watch.exhausted:
            self._due.extend(watch.limits.closing)
        if watch.thinking or thinking:
            self._finder = StopFinder(self.tokenizer, self.row.stop)
            return False
        return self._finder.push(token)

    def _stopped(self) -> tuple[str, bool]:
        after = self._watch.length if self._watch else 0
        return text_and_end(self.tokenizer, self.generated, self.row.stop, after)

    def _late(self) -> bool:
        if self.row.seconds is None:
            return False
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        return now - self._began > self.row.seconds

    def _answer(self, end: str) -> Answer:
        text, stopped = self._stopped()
        marks = tuple(mark for mark in marks_in(self.tokenizer, self.generated, self.row.tags) if mark[0] <= len(text))
        thought = thought_tokens(self.tokenizer, self.generated, self.row.opened, self.row.tags)
        return Answer(text, len(self.generated), "stop" if stopped else end, thought, marks)


@dataclass
class Scheduler:
    """Runs all rows through one batch."""

    batch: Batch
    tokenizer: Any
    ends: Sequence[int]
    "Tokens that end a text."
    limit: Limit
    free: Callable[[], None] = lambda: None
    "Called before going on with fewer rows, to release cached memory."

    def results(self, rows: Sequence[GenerateRow]) -> Iterator[list[tuple[GenerateRow, Answer]]]:
        """Rows with their answers, as soon as they end. Raises OutOfMemoryError with the row."""
        waiting = deque(self._ordered(rows))
        self._needed = Counter(part for row in waiting for part in _chain(row))
        self.batch.clear()
        while waiting or self.batch.rows:
            joining = self._joining(waiting)
            ended = self._tried(joining)
            if ended is None:
                waiting.extendleft(reversed(self._shrink(joining)))
            elif ended:
                yield self._leave(ended)
        self.batch.clear()

    def _ordered(self, rows: Sequence[GenerateRow]) -> list[RunningRow]:
        """Rows of a shared prefix together, the longest first."""
        order = shared_prefixes([row.inputs for row in rows], [row.length for row in rows])
        return [RunningRow(rows[n], self.tokenizer, self.ends, prefix) for n, prefix in order]

    def _joining(self, waiting: deque[RunningRow]) -> list[RunningRow]:
        """The rows that join now, taken from those waiting: as many as fit, or none while few places are free."""
        here, chosen = len(self.batch.rows), 0
        length = max((row.own_length for row in self.batch.rows), default=0)
        shared = {part for row in self.batch.rows for part in _chain(row)}
        for row in waiting:
            length = max(length, row.own_length)
            shared |= set(_chain(row))
            count = here + chosen + 1
            tokens = count * length + max(self.batch.shared_tokens, sum(len(part.tokens) for part in shared))
            if count > 1 and (count > (self.limit.rows or count) or tokens > (self.limit.tokens or tokens)):
                break
            chosen += 1
        if chosen < len(waiting) and chosen * WAITING_SHARE < here:
            return []
        return [waiting.popleft() for _ in range(chosen)]

    def _tried(self, joining: Sequence[RunningRow]) -> list[tuple[int, Answer]] | None:
        """The rows that ended in this step; None if memory ran out. By then the exception and its memory are gone."""
        try:
            if joining:
                self.batch.join(joining, self.limit.tokens)
            tokens = next_tokens(self.batch.decode_step(), self.batch.rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            affected = _affected(self.batch.rows, joining)
            if len(affected) == 1:
                raise OutOfMemoryError(affected[0].row) from error
            return None
        taken = [row.take(*token) for row, token in zip(self.batch.rows, tokens, strict=True)]
        return [(n, answer) for n, answer in enumerate(taken) if answer]

    def _leave(self, ended: Sequence[tuple[int, Answer]]) -> list[tuple[GenerateRow, Answer]]:
        """Remove rows from the batch, with the prefixes that no other row needs."""
        gone = [self.batch.rows[n] for n, _ in ended]
        self.batch.leave([n for n, _ in ended])
        for part in (part for row in gone for part in _chain(row)):
            self._needed[part] -= 1
            if not self._needed[part]:
                self.batch.drop_prefix(part)
        return [(row.row, answer) for row, (_, answer) in zip(gone, ended, strict=True)]

    def _shrink(self, joining: Sequence[RunningRow]) -> list[RunningRow]:
        """Lower the limit after running out of memory; returns the rows that must wait again, with their tokens."""
        rows = _affected(self.batch.rows, joining)
        tokens = len(rows) * max(row.own_length for row in rows)
        shared = sum(len(part.tokens) for part in {part for row in rows for part in _chain(row)})
        self.limit.halve(tokens + shared)
        log.warning("out of memory with %d tokens; continuing with at most %d", tokens + shared, self.limit.tokens)
        self.batch.clear()
        self.free()
        return rows


def next_tokens(logits: torch.Tensor, rows: Sequence[RunningRow]) -> list[tuple[int, bool]]:
    """Each row's next token, and whether its logits [rows, vocabulary] were finite: NaN's argmax is a token, too."""
    logits = logits.float()
    tokens = largest(logits)  # NaN counts as the largest
    finite = logits.gather(1, tokens[:, None])[:, 0].isfinite()
    barred = [(n, token) for n, row in enumerate(rows) for token in row.barred]
    draws = any(row.row.sampling.temperature > 0 for row in rows)
    if draws:
        logits = logits.masked_fill(~finite[:, None], 0)  # sampling needs finite numbers; the row ends anyway
    if draws or barred:
        tokens = choose(logits, [row.row.sampling for row in rows], [row.draw() for row in rows], barred)
    both = torch.stack([tokens, finite.long()]).tolist()  # the only time in a step that the host waits for a device
    return [(token if row.due is None else row.due, bool(good)) for row, token, good in zip(rows, *both, strict=True)]


def _affected(here: Sequence[RunningRow], joining: Sequence[RunningRow]) -> list[RunningRow]:
    """The rows in the batch and those joining it, each once."""
    return list(dict.fromkeys([*here, *joining]))


def _chain(row: RunningRow) -> Iterator[Prefix]:
    return row.prefix.chain() if row.prefix else iter(())
