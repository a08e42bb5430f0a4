"""A data set's rows as requests to a model, with the right answers beside them."""

from shardmark.tasks.render import Sample, render
from shardmark.tasks.requests import characters, request_id
from shardmark.tasks.rows import Row, hub_rows, read_rows, rows_file

__all__ = [
    "Row",
    "Sample",
    "characters",
    "hub_rows",
    "read_rows",
    "render",
    "request_id",
    "rows_file",
]
