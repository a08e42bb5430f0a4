"""Prediction files: one JSON line for each request, then a trailer that says the file is whole.

results/predictions/{model}@{digest}/{dataset}/{shard}.jsonl. The trailer holds the shard's name, the model's digest,
the count of the lines before it, how they were made, and the SHA-256 of them and of that. A file without a fitting
trailer is refused by name: it is never taken for an answer, nor is one in the folder of a model that did not give it.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import json_line, write_whole
from shardmark.records.base import Unreadable, convert, to_json
from shardmark.records.prediction import Prediction, read_prediction
from shardmark.records.trailer import Made, Trailer

TRAILER = "complete"
ANSWERS = 4
"Raised when some requests of some models are answered otherwise; plan/outdated_answers.py knows which. In the trailer."
TAIL_BYTES = 16384


def write_predictions(path: Path, predictions: Iterable[Prediction], made: Made) -> None:
    """Write predictions in the order of their ids, and the trailer that says how they were made."""
    lines = [json_line(to_json(p)) for p in sorted(predictions, key=lambda p: p.id)]
    body = "".join(lines).encode()
    identity = {"shard": path.stem, "model": _model_digest(path), "answers": ANSWERS}
    write_whole(path, body + _trailer(body, {**identity, "count": len(lines), **to_json(made)}))


def _model_digest(path: Path) -> str:
    """The digest of the model that the answers in a file are of; its name may have been another one."""
    return layout.split_name(layout.PREDICTIONS.fields(path)["model"])[1]


def _trailer(body: bytes, facts: dict[str, Any]) -> bytes:
    """The last line of a file: facts, and the hash of the lines before it and of the facts."""
    value = hashlib.sha256(body + json_line(facts).encode()).hexdigest()
    return json_line({TRAILER: {**facts, "sha256": value}}).encode()


def read_predictions(path: Path) -> tuple[dict[str, Prediction], Trailer]:
    """The predictions by request id, and the trailer. Raises UserError if the file is not whole."""
    lines, trailer = _checked(path)
    try:
        predictions = [read_prediction(line) for line in lines]
    except Unreadable as error:
        raise _refused(path, f"it is not made of predictions: {error}") from error
    by_id = {prediction.id: prediction for prediction in predictions}
    if len(by_id) != len(predictions):
        raise _refused(path, "a request is answered twice")
    return by_id, trailer


def check_predictions(path: Path) -> None:
    """Raise UserError if a file is not whole, or not this shard's and this model's."""
    _checked(path)


def _checked(path: Path) -> tuple[list[bytes], Trailer]:
    """The lines of a file's predictions and the trailer that hashes them."""
    try:
        *lines, last = path.read_bytes().splitlines(keepends=True) or [b""]  # bytes: only \n and \r end a line
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    try:
        facts = _facts(last)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(path, "it is cut off or not made of JSON lines") from error
    if last != _trailer(b"".join(lines), {key: value for key, value in facts.items() if key != "sha256"}):
        raise _refused(path, "its lines are not those that its trailer hashes")
    try:
        trailer = convert(facts, Trailer)
    except Unreadable as error:
        raise _refused(path, f"its trailer cannot be read: {error}") from error
    if trailer.shard != path.stem:
        raise _refused(path, f"it is that of shard {trailer.shard}")
    if trailer.model not in ("", _model_digest(path)):
        raise _refused(path, f"it is that of the model with digest {trailer.model}")
    return lines, trailer


def _facts(line: bytes) -> dict[str, Any]:
    """What a trailer's line holds, keys in their order: they are hashed in it."""
    return dict(json.loads(line)[TRAILER])


def _refused(path: Path, why: str) -> UserError:
    return UserError(Problem(str(path), "", f"not a whole prediction file: {why}", "delete it; it is then made anew"))


def read_trailer(path: Path) -> Trailer | None:
    """The trailer alone, from the end of the file, without checking the rest; None if there is no readable one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            last = file.read().removesuffix(b"\n").rpartition(b"\n")[2]
        return convert(_facts(last), Trailer)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
