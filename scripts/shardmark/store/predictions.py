"""Prediction files: one JSON line for each request, then a trailer that shows that the file is whole.

results/predictions/{model}@{digest}/{dataset}/{shard}.jsonl. The trailer holds the shard's name, the model's digest,
the count of the lines before it, how they were made, and the SHA-256 of the lines and of these facts. A file without a
matching trailer is refused by name and never taken for an answer; so is one in the folder of another model.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import json_line, write_whole
from shardmark.records.base import FORMAT, Unreadable, convert, to_json
from shardmark.records.prediction import Frame, Prediction, read_prediction
from shardmark.records.trailer import Made, Trailer

TRAILER = "complete"
ANSWERS = 6
"The version of answers, in the trailer. Raised when some models' answers change; see plan/outdated_answers.py."
WITH_FRAMES = 2
"The format of files in which predictions have the frames of chats; version 0.2 knows no other keys than before."
TAIL_BYTES = 16384


def write_predictions(path: Path, predictions: Iterable[Prediction], made: Made, answers: int = ANSWERS) -> None:
    """Write predictions in the order of their ids, and the trailer that says how they were made.

    `answers` is the version that gave them, if not the current one.
    """
    numbered = list(_numbered(sorted(predictions, key=lambda p: p.id)))
    lines = [json_line(to_json(p)) for p in numbered]
    body = "".join(lines).encode()
    identity: dict[str, Any] = {"shard": path.stem, "model": _model_digest(path), "answers": answers}
    if any(p.sent for p in numbered):
        identity = {FORMAT: WITH_FRAMES, **identity}
    write_whole(path, body + _trailer(body, {**identity, "count": len(lines), **to_json(made)}))


def _numbered(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """The predictions, with a number in place of each frame that an earlier one has."""
    numbers: dict[Frame | int, int] = {}

    def numbered(frame: Frame | int) -> Frame | int:
        return frame if numbers.setdefault(frame, number := len(numbers)) == number else numbers[frame]

    for each in predictions:
        yield replace(each, sent=tuple(map(numbered, each.sent))) if each.sent else each


def _with_frames(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """The predictions, with the frames that numbers stand for. Raises Unreadable."""
    frames: list[Frame] = []

    def frame_at(found: Frame | int) -> Frame:
        if isinstance(found, int):
            if found not in range(len(frames)):
                raise Unreadable(f"sent: no line before has frame {found}")
            return frames[found]
        frames.append(found)
        return found

    for each in predictions:
        yield replace(each, sent=tuple(map(frame_at, each.sent))) if each.sent else each


def _model_digest(path: Path) -> str:
    """The digest of the model that gave the answers in a file; its name may have changed since."""
    return layout.split_name(layout.PREDICTIONS.fields(path)["model"])[1]


def _trailer(body: bytes, facts: dict[str, Any]) -> bytes:
    """The last line of a file: facts, and the hash of the lines before it and of the facts."""
    value = hashlib.sha256(body + json_line(facts).encode()).hexdigest()
    return json_line({TRAILER: {**facts, "sha256": value}}).encode()


def read_predictions(path: Path) -> tuple[dict[str, Prediction], Trailer]:
    """The predictions by request id, and the trailer. Raises UserError if the file is not whole."""
    return parse_predictions(_content(path), path)


def parse_predictions(content: bytes, path: Path) -> tuple[dict[str, Prediction], Trailer]:
    """The predictions and the trailer in the content of a file that is, or will be, at `path`."""
    lines, trailer = _checked(content, path)
    try:
        predictions = [*_with_frames(map(read_prediction, lines))]
    except Unreadable as error:
        raise _refused(path, f"it contains lines that are not predictions: {error}") from error
    by_id = {prediction.id: prediction for prediction in predictions}
    if len(by_id) != len(predictions):
        raise _refused(path, "a request is answered twice")
    return by_id, trailer


def check_predictions(path: Path) -> None:
    """Raise UserError if a file is not whole, or belongs to another shard or model."""
    _checked(_content(path), path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


def _checked(content: bytes, path: Path) -> tuple[list[bytes], Trailer]:
    """The lines of a file's predictions and the trailer that hashes them."""
    *lines, last = content.splitlines(keepends=True) or [b""]  # bytes: only \n and \r end a line
    try:
        facts = _facts(last)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(path, "it is cut off or not in JSON lines") from error
    if last != _trailer(b"".join(lines), {key: value for key, value in facts.items() if key != "sha256"}):
        raise _refused(path, "its lines do not match the hash in its trailer")
    try:
        trailer = convert(facts, Trailer, WITH_FRAMES)
    except Unreadable as error:
        raise _refused(path, f"its trailer cannot be read: {error}") from error
    if trailer.shard != path.stem:
        raise _refused(path, f"it belongs to shard {trailer.shard}")
    if trailer.model not in ("", _model_digest(path)):
        raise _refused(path, f"it belongs to the model with digest {trailer.model}")
    return lines, trailer


def _facts(line: bytes) -> dict[str, Any]:
    """The facts in a trailer's line, keys in their order: the hash depends on it."""
    return dict(json.loads(line)[TRAILER])


def _refused(path: Path, why: str) -> UserError:
    return UserError(
        Problem(str(path), "", f"not a complete prediction file: {why}", "delete it; the next run recreates it")
    )


def read_trailer(path: Path) -> Trailer | None:
    """The trailer alone, from the end of the file, without checking the rest; None if there is no readable one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            last = file.read().removesuffix(b"\n").rpartition(b"\n")[2]
        return convert(_facts(last), Trailer, WITH_FRAMES)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
