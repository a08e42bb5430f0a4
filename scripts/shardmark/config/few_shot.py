"""The worked examples of a data set: which rows they are, and what they look like."""

import json
from datetime import date
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from shardmark.settings import Settings

Pick = Literal["first", "ids", "random", "bm25", "embedding"]


class ExampleSource(Settings):
    """Where examples come from, as far as it differs from where the data set's rows come from."""

    hub: str | None = None
    "Another data set's id on the Hub."
    config: str | None = None
    "Another configuration on the Hub."
    revision: str | None = None
    "Another branch, tag or commit."
    split: str | None = None
    "Another split on the Hub, such as train."
    local: str | None = None
    "The JSON-lines file below `data_root` that holds them."
    file: str | None = None
    "A JSON-lines file of your own."


class FewShot(Settings):
    """Worked examples that stand before the question: rows of your own, of another source, or of the data set."""

    examples: list[dict[str, Any]] | None = Field(None, min_length=1)
    "Rows of your own, with the columns that `prompt` and `answer` use. All of them, unless `pick` chooses."
    source: ExampleSource | None = None
    "Where else the examples come from: what it leaves out is as in the data set's `source`."
    pick: Pick | None = None
    "Which: the first; those of `ids`; by lot; the most similar ones by BM25 or by embedding."
    count: PositiveInt | None = None
    "How many for each question."
    ids: list[int | str] | None = Field(None, min_length=1)
    "pick ids: their values of `id_column`; without one, their numbers from 0 (among those of `same`)."
    seed: NonNegativeInt = 0
    "pick random: another number draws others."
    same: str | None = None
    "A column: only rows that have the question's value in it are examples for it, e.g. MMLU's subject."
    where: str | None = None
    "Jinja expression; only rows for which it is true are examples. The data set's own if null; true takes all."
    query: str | None = None
    "pick bm25, embedding: template of the text that is compared; the prompt if null."
    embedding_model: str | None = None
    "pick embedding: folder of a sentence-transformers model."
    answer: str | None = None
    "Jinja template of what follows the prompt in an example; if null, the continuation or target with a space before."
    separator: str = "\n\n"
    "What stands between examples, and before the question. Messages need none."

    @field_validator("examples", mode="before")
    @classmethod
    def _as_json(cls, examples: object) -> Any:
        """YAML's dates become text, as in rows from the Hub."""
        return json.loads(json.dumps(examples, default=_date))

    @model_validator(mode="after")
    def _fits_together(self) -> "FewShot":
        if self.examples and self.source:
            raise ValueError("give examples or source, not both")
        if self.pick == "ids" and not self.ids:
            raise ValueError("pick ids needs ids: [...]")
        if self.pick != "ids" and not self.count and not (self.examples and not self.pick):
            raise ValueError("count is missing: how many examples?")
        only = {"ids": "ids", "seed": "random", "embedding_model": "embedding"}
        for key, pick in only.items():
            if key in self.model_fields_set and getattr(self, key) is not None and self.pick != pick:
                raise ValueError(f"{key} without effect: only pick {pick} has it")
        if self.pick == "ids" and self.count:
            raise ValueError("count without effect: pick ids takes those of ids")
        if self.query and self.pick not in ("bm25", "embedding"):
            raise ValueError("query without effect: only pick bm25 and embedding compare texts")
        if self.pick == "embedding" and not self.embedding_model:
            raise ValueError("pick embedding needs embedding_model, the folder of a sentence-transformers model")
        return self


def _date(value: object) -> str:
    if not isinstance(value, date):
        raise ValueError(f"expected columns as JSON has them, found {type(value).__name__}")
    return str(value)
