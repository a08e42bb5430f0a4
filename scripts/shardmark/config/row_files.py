"""How to read files of rows if their names and contents leave it open."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from shardmark.settings import Settings

Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
Files = str | Annotated[list[str], Field(min_length=1)]
"A path or glob, or several."
Type = Literal["text", "int", "float", "bool", "json"]


class RowFiles(Settings):
    """How to read files of rows."""

    format: Format | None = None
    "The format of files if their name does not tell; otherwise the suffix does, before .gz, .zst, .bz2 or .xz."
    types: dict[str, Type] = Field(default={})
    "For CSV and TSV: columns that are not text: int, float, bool or json. An empty cell in one of them is null."
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    "For CSV and TSV: the separator of cells, if not a comma or a tab."
    quotes: bool = True
    "For CSV and TSV: whether cells may be in double quotes; false takes quotes as part of the text."
    field: str | None = None
    "For JSON: the key of the rows, if the file is one object that contains them in a list."

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings with their default, so that data sets that need none keep their records and digests."""
        written: dict[str, Any] = handler(self)
        unset = {key for key, field in RowFiles.model_fields.items() if getattr(self, key) == field.default}
        return {key: value for key, value in written.items() if key not in unset}
