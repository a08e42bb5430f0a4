"""A data set's rows as requests to a model, with the right answers beside them."""

from shardmark.tasks.columnar_files import Row
from shardmark.tasks.render import Sample, render
from shardmark.tasks.requests import characters, request_id
from shardmark.tasks.row_files import read_rows
from shardmark.tasks.rows import FileRows, hub_rows, rows_files

__all__ = [
    "FileRows",
    "Row",
    "Sample",
    "characters",
    "hub_rows",
    "read_rows",
    "render",
    "request_id",
    "rows_files",
]
