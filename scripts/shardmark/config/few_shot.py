"""The worked examples of a data set: their rows, and their form."""

import json
from datetime import date
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from shardmark.config.row_files import Files, RowFiles
from shardmark.settings import Settings

Pick = Literal["first", "ids", "random", "bm25", "embedding"]


class ExampleSource(RowFiles):
    """The source of examples, as far as it differs from that of the data set's rows."""

    hub: str | None = None
    "Another data set's id on the Hub."
    config: str | None = None
    "Another configuration on the Hub."
    revision: str | None = None
    "Another branch, tag or commit."
    split: str | None = None
    "Another split on the Hub, such as train."
    local: str | None = None
    "The file below `data_root` that holds them, or a glob."
    file: Files | None = None
    "A file of your own, or several."


class FewShot(Settings):
    """Worked examples before the question: rows of your own, of another source, or of the data set."""

    examples: list[dict[str, Any]] | None = Field(None, min_length=1)
    "Rows of your own, with the columns that `prompt` and `answer` use. All are used, unless `pick` selects."
    source: ExampleSource | None = None
    "Another source of examples; keys that it leaves out are as in the data set's `source`."
    pick: Pick | None = None
    "Which examples: the first; those with `ids`; random ones; the most similar ones by BM25 or by embedding."
    count: PositiveInt | None = None
    "How many examples for each question."
    ids: list[int | str] | None = Field(None, min_length=1)
    "For pick ids: values of `id_column`; without one, row numbers from 0 (among the rows selected by `same`)."
    seed: NonNegativeInt = 0
    "For pick random: another number picks other examples."
    same: str | None = None
    "A column, e.g. MMLU's subject: only rows with the question's value in it are examples."
    where: str | None = None
    "Jinja expression; only rows for which it is true are examples. null: the data set's own; true takes all."
    query: str | None = None
    "For pick bm25 and embedding: template of the text that is compared; the prompt if null."
    embedding_model: str | None = None
    "For pick embedding: folder of a sentence-transformers model."
    answer: str | None = None
    "Jinja template of what follows the prompt in an example; null: the continuation or target, after a space."
    separator: str = "\n\n"
    "The text between examples, and before the question. Messages need none."

    @field_validator("examples", mode="before")
    @classmethod
    def _as_json(cls, examples: object) -> Any:
        """Turn YAML's dates into text, as in rows from the Hub."""
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
                raise ValueError(f"{key} has no effect: only pick {pick} uses it")
        if self.pick == "ids" and self.count:
            raise ValueError("count has no effect: pick ids takes the rows of ids")
        if self.query and self.pick not in ("bm25", "embedding"):
            raise ValueError("query has no effect: only pick bm25 and embedding compare texts")
        if self.pick == "embedding" and not self.embedding_model:
            raise ValueError("pick embedding needs embedding_model, the folder of a sentence-transformers model")
        return self


def _date(value: object) -> str:
    if not isinstance(value, date):
        raise ValueError(f"expected columns with JSON types, found {type(value).__name__}")
    return str(value)
