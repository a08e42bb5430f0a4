"""Similarity of texts: by the words they share (BM25), or by their embeddings."""

import importlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shardmark.config.few_shot import FewShot
from shardmark.errors import Problem, UserError
from shardmark.tasks.rows import Row

Similar = Callable[[Row], Any]
"Maps a row to an array of similarities to each text; higher is more similar."

WORD = re.compile(r"\w+")
DIGITS = 4
"Decimals to which cosines are compared: further ones depend on the machine."


def similarity(settings: FewShot, texts: Sequence[str], query: Callable[[Row], str], where: str) -> Similar | None:
    """The function that compares a row with texts, by the settings; None if they compare nothing.

    Raises UserError if a package or the model is missing.
    """
    if settings.pick == "bm25":
        return _bm25(texts, query, where)
    if settings.pick == "embedding":
        return _embedding(str(settings.embedding_model), texts, query, where)
    return None


def _bm25(texts: Sequence[str], query: Callable[[Row], str], where: str) -> Similar:
    bm25s = _package("bm25s", where)
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it logs each step on the terminal
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    index.index([_words(text) for text in texts], show_progress=False)
    return lambda row: index.get_scores(_words(query(row)))


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower()) or [""]


def _embedding(folder: str, texts: Sequence[str], query: Callable[[Row], str], where: str) -> Similar:
    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        fix = "give the folder of a downloaded sentence-transformers model"
        raise UserError(Problem(where, "few_shot.embedding_model", f"no model in {folder}", fix))
    package = _package("sentence_transformers", where)
    model = package.SentenceTransformer(str(path), device="cpu", local_files_only=True)

    def embedded(some: Sequence[str]) -> Any:
        return model.encode(list(some), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)

    known = embedded(texts)
    return lambda row: (known @ embedded([query(row)])[0]).round(DIGITS)


def _package(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        inner = getattr(error, "name", name) not in (name, None)
        what = f"the package {name.replace('_', '-')} " + (f"needs another: {error}" if inner else "is not installed")
        fix = f"pip install {name.replace('_', '-')}, or use pick: first, ids or random"
        raise UserError(Problem(where, "few_shot.pick", what, fix)) from error
