"""The leaderboard as files for other programs: long CSV and wide GitHub Markdown."""

import re
from typing import Any

from shardmark.printable import printable
from shardmark.records.gap import Gap
from shardmark.records.score import Metric, Reasoning, Scores

from .formats import DASH, figure, margin
from .index import write_alone
from .leaderboard import Cell, Column, Leaderboard, Row
from .remarks import incomplete, limits, same_rows
from .render import write_text
from .results import Results
from .site import Site


def write_tables(site: Site) -> None:
    """Write leaderboard.html, which needs no other file, leaderboard.csv and leaderboard.md."""
    write_alone(site)
    write_text(site.folder / "leaderboard.csv", leaderboard_csv(site.results))
    write_text(site.folder / "leaderboard.md", leaderboard_markdown(site.board))


CSV_COLUMNS = [
    "model", "model_digest", "dataset", "dataset_digest",
    "metric", "value", "stderr", "ci95_low", "ci95_high", "n", "status", "limit", "asked",
    "reasoning_cut", "reasoning_tokens", "answer_tokens", "remarks",
]  # fmt: skip
INNER = re.compile(r"([;\t\r\n]\s*)(?=[=+\-@＝＋－＠])")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
MARKUP = re.compile(r"[\\`*_{}\[\]#|!~$@^]|(?<=www)\.|:(?=//)", re.IGNORECASE)
LEGEND = "± half the 95 % interval; **best**; ≈ not distinguishable from the best (paired test, 5 % after Holm)."


def leaderboard_csv(results: Results) -> str:
    """One CSV row for each model, data set and metric; unknown numbers are empty fields.

    The status is "scored"; a missing result has a row without a metric, whose status gives the reason. Values are as
    scored (fractions, not percent) and read back to the same floating-point numbers. `limit` is the part of the data
    set that was asked, empty for all of it; `asked` is chat or text. For models that reason, three columns have the
    share of answers whose reasoning was cut, and the mean tokens of reasoning and of the rest of an answer. `remarks`
    are those that must accompany the score. A text that a spreadsheet would evaluate begins with "'".
    """
    import pandas as pd

    records = [
        [
            *map(cell_text, [*_names(pair.scores), name]),
            *(metric.value, metric.stderr, *(metric.ci95 or (None, None)), metric.n),
            "scored",
            cell_text(_part(pair.scores)),
            "chat" if pair.scores.dataset.is_chat else "text",
            *_reasoning(pair.scores.counts.reasoning),
            cell_text("; ".join(pair.scores.counts.remarks())),
        ]
        for pair in [*results.grouped.values(), *results]
        for name, metric in pair.scores.metrics.items()
    ]
    records += [_gap(gap) for gap in results.gaps]
    frame = pd.DataFrame(records, columns=CSV_COLUMNS).astype({"n": "Int64"})  # whole numbers, with empty fields
    return str(frame.to_csv(index=False, lineterminator="\n"))


def cell_text(text: str) -> str:
    """The text, protected from evaluation by spreadsheets; so are its parts, where ; or a tab separates cells."""
    text = INNER.sub(r"\1'", text)
    return f"'{text}" if text.startswith(FORMULA) else text


def _part(scores: Scores) -> str:
    """The part of a data set that a score covers: the part that was asked, and how much of it is answered so far."""
    so_far = scores.counts.so_far
    return "; ".join(filter(None, [scores.dataset.part, str(so_far) if so_far else ""]))


def _names(scores: Scores) -> list[str]:
    return [scores.model.name, scores.model.digest, scores.dataset.name, scores.dataset.digest]


def _gap(gap: Gap) -> list[Any]:
    names = [gap.model.name, gap.model.digest, gap.dataset.name, gap.dataset.digest]
    return [*map(cell_text, names), *[None] * 6, cell_text(gap.text), "", "", *_reasoning(None), ""]


def _reasoning(found: Reasoning | None) -> list[float | None]:
    return [found.share_cut, found.mean_thought, found.mean_answer] if found else [None] * 3


def leaderboard_markdown(board: Leaderboard) -> str:
    """The leaderboard as a GitHub Markdown table: best in bold, ties with the best marked "≈".

    Missing results are announced above the table, and listed below it.
    """
    parts = sum(bool(column.dataset.part) for column in board.in_mean)
    said = f"; {parts} of {len(board.in_mean)} data sets in part" if parts else ""
    mean = f"{'Weighted mean' if board.weights else 'Mean'} (%{said})"
    header = ["Rank", "Model", mean, *map(_heading, board.columns)]
    ruler = ["---:", "---", *["---:"] * (len(header) - 2)]
    lines = [header, ruler, *(_row(row) for row in board.rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    limited = "".join(f"\nOnly in part: {_escaped(told)}.\n" for told in limits(board))
    limited += "".join(f"\n{_escaped(told)}.\n" for told in same_rows(board))
    if not board.gaps:
        return f"{table}\n{LEGEND}\n{limited}"
    gaps = "".join(f"- {_escaped(f'{g.model.name} on {g.dataset.name}: {g.text}')}\n" for g in board.gaps)
    return f"**{incomplete(board)}**\n\n{table}\n{LEGEND}\n{limited}\n{gaps}"


def _heading(column: Column) -> str:
    metric = column.metric and f"{column.metric}{', %' if column.percent else ''}"
    facts = "; ".join(filter(None, [metric, column.dataset.part, column.asked]))
    return _escaped(column.dataset.name + (f" ({facts})" if facts else ""))


def _row(row: Row) -> list[str]:
    mean = _marked(row.mean, row.standing) if row.mean else DASH
    return [str(row.ranks or DASH), _escaped(row.model.name), mean, *map(_cell, row.cells)]


def _cell(cell: Cell) -> str:
    remarks = f" ({'; '.join(cell.remarks)})" if cell.remarks else ""
    return _marked(cell.metric, cell.standing) + remarks if cell.metric else _escaped(cell.absence)


def _marked(metric: Metric, standing: str) -> str:
    value = f"**{figure(metric)}**" if standing == "best" else figure(metric)
    return f"{value} ± {margin(metric)}{' ≈' if standing == 'tied' else ''}"


def _escaped(text: str) -> str:
    """The text escaped for GitHub: no end of a cell, no HTML, link, image, formula, code or emphasis."""
    text = MARKUP.sub(r"\\\g<0>", " ".join(printable(text).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")
