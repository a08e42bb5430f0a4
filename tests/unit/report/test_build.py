"""The whole report: complete, safe, the same for the same inputs, and with links that lead somewhere."""

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from shardmark.report.build import build_report
from unit.report.fake_results import (
    FACTS,
    Files,
    make_samples,
    make_scores,
    read_index,
    read_texts,
    write_pair,
    write_results,
)

HOSTILE = "<script>alert(1)</script>"
SCRIPTS = Path(__file__).parents[3] / "scripts"


class Page(HTMLParser):
    """The tags of a page that tests look at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.scripts = 0
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(value for value in [values.get("id")] if value)
        self.links += [values["href"] or ""] if tag == "a" and "href" in values else []
        self.loads += [values["src"] or ""] if "src" in values else []
        self.loads += [values["href"] or ""] if tag in ("link", "use", "image") and "href" in values else []
        self.scripts += tag == "script"


def pages(report: Path) -> list[Page]:
    return [Page(path) for path in sorted(report.rglob("*.html"))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    models, datasets = (
        ["demo_large", "demo_tiny"],
        ["demo_arithmetic", "demo_capitals", "demo_reading_comprehension"],
    )
    return write_results(tmp_path_factory.mktemp("fake"), models, datasets)


@pytest.fixture(scope="module")
def report(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report("demo", *files, tmp_path_factory.mktemp("out") / "report", FACTS).parent


def test_the_report_has_its_pages_tables_and_data(report: Path) -> None:
    assert "a score opens its samples" in (report / "index.html").read_text("utf-8")
    found = {str(path.relative_to(report)) for path in report.rglob("*") if path.is_file()}
    names = {"index.html", "samples.html", "metrics.html", "provenance.html", "leaderboard.csv", "leaderboard.md"}
    assert {name for name in found if not name.startswith("data/")} >= names
    assert "data/catalog.js" in found


def test_every_link_leads_to_a_place_that_exists(report: Path) -> None:
    ids = {page.path.resolve(): page.ids for page in pages(report)}
    for page in pages(report):
        for link in page.links:
            file, _, fragment = link.partition("#")
            target = (page.path.parent / unquote(file)).resolve() if file else page.path.resolve()
            assert target.is_file(), (page.path, link)
            assert not fragment or target.name == "samples.html" or fragment in ids[target], (page.path, link)


def test_no_id_stands_twice_on_a_page(report: Path) -> None:
    assert [page.path for page in pages(report) if any(n > 1 for n in page.ids.values())] == []


def test_pages_load_nothing_and_forbid_it_to_whatever_gets_in(report: Path) -> None:
    for page in pages(report):
        assert {place for place in page.loads if not place.startswith("charts/")} == {"data:,"}
        text = page.path.read_text("utf-8")
        assert "default-src &#39;none&#39;" in text
        assert "url(" not in text
        assert "unsafe" not in text.partition("<style>")[0]
        assert page.scripts <= 1


def test_a_pair_that_was_not_run_is_shown_as_such(report: Path) -> None:
    text = (report / "index.html").read_text("utf-8")
    assert "demo_tiny was not run on demo_reading_comprehension" in text
    assert '<td class="num absent"' in text


def test_a_pair_takes_few_bytes_of_the_page_of_how_it_was_run(report: Path) -> None:
    table = (report / "provenance.html").read_text("utf-8").partition('aria-label="Inference"')[2]
    rows = table.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]
    assert rows
    assert [row.count("<td") for row in rows] == [10] * len(rows)
    assert max(len(re.sub(r' title="[^"]*"', "", row)) for row in rows) < 220


def test_the_same_inputs_give_the_same_bytes(files: Files, report: Path, tmp_path: Path) -> None:
    again = build_report("demo", *files, tmp_path / "again", FACTS).parent
    for path in (path for path in report.rglob("*") if path.is_file()):
        assert (again / path.relative_to(report)).read_bytes() == path.read_bytes(), path


def hostile_files(root: Path) -> Files:
    files = Files([], [])
    for name in ("demo_arithmetic", "demo_capitals"):
        samples = make_samples("m", name, 8)
        for sample in samples:
            sample |= {
                "sample": HOSTILE,
                "prompt": HOSTILE,
                "request": HOSTILE,
                "group": HOSTILE,
                "row": {HOSTILE: HOSTILE},
            }
            sample |= {"output": HOSTILE, "answer": HOSTILE, "target": [HOSTILE]} if name == "demo_arithmetic" else {}
            sample |= {"choices": [HOSTILE] * 4} if "choices" in sample else {}
        scores = make_scores("m", name, samples)
        scores["primary"] = HOSTILE
        scores["metrics"] = {HOSTILE: scores["metrics"]["accuracy"], "other": scores["metrics"]["accuracy"]}
        for part in ("model", "dataset"):
            scores[part] |= {
                "description": HOSTILE,
                "source": HOSTILE,
                "revision": HOSTILE,
                "digest": "1" + name * 0,
            }
        scores["provenance"] |= {
            "config": {HOSTILE: HOSTILE},
            "hardware": {"cpu": HOSTILE},
            "packages": {HOSTILE: HOSTILE},
        }
        write_pair(root, files, scores, samples)
    return files


def test_markup_in_any_input_is_shown_and_never_run(tmp_path: Path) -> None:
    facts = {
        "command": HOSTILE,
        "config": {HOSTILE: HOSTILE},
        "host": HOSTILE,
        "generated": HOSTILE,
        HOSTILE: HOSTILE,
    }
    index = build_report(HOSTILE, *hostile_files(tmp_path), tmp_path / "out", facts)
    for page in pages(index.parent):
        assert page.scripts <= 1
        text = page.path.read_text("utf-8")
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_marks_that_turn_a_text_around_are_visible_on_pages(tmp_path: Path) -> None:
    files = write_results(tmp_path, ["demo_tiny"], ["demo_arithmetic"], n=4)
    for path in files.scores:
        path.write_text(path.read_text("utf-8").replace("A toy model", "A \u202etoy\u2066 model\u200b"), "utf-8")
    index = build_report("r\u202en", *files, tmp_path / "out", {"host": "h\u202eh", "command": "a\u061cb"})
    text = "".join(page.path.read_text("utf-8") for page in pages(index.parent))
    assert not {*"\u202e\u2066\u200b\u061c"} & {*text}
    assert "A ⟨U+202E⟩toy⟨U+2066⟩ model⟨U+200B⟩" in text


def test_surrogates_and_nul_in_outputs_do_not_stop_the_report(tmp_path: Path) -> None:
    samples = make_samples("m", "demo_arithmetic", 4)
    for sample in samples:
        sample |= {
            "prompt": "\ud800\0",
            "output": "\udfff\0\x1b[0m\ufffe",
            "answer": "\ud83d",
            "row": {"\udc00": "\0"},
        }
    files = Files([], [])
    write_pair(tmp_path, files, make_scores("m", "demo_arithmetic", samples), samples)
    index = build_report("r\ud800n", *files, tmp_path / "out", {"host": "\udfff"})
    read = read_texts(index.parent, "demo_arithmetic", "m")[0]
    assert (read["prompt"], read["output"], read["answer"]) == ("\ud800\0", "\udfff\0\x1b[0m\ufffe", "\ud83d")


def test_a_report_can_be_made_from_scores_alone(files: Files, tmp_path: Path) -> None:
    index = build_report("demo", files.scores, [], tmp_path / "out", {})
    assert not (index.parent / "samples").exists()
    assert not (index.parent / "samples.html").exists()
    assert "a score opens its samples" not in index.read_text("utf-8")
    assert "compared as independent ones" in (index.parent / "compare.html").read_text("utf-8")
    assert [link for page in pages(index.parent) for link in page.links if link.startswith("samples")] == []


def test_an_unknown_standard_error_is_a_dash(tmp_path: Path) -> None:
    samples = make_samples("m", "demo_arithmetic", 1)
    scores = make_scores("m", "demo_arithmetic", samples * 2)
    for metric in scores["metrics"].values():
        metric |= {"stderr": float("nan"), "ci95": None}
    files = Files([], [])
    write_pair(tmp_path, files, scores, samples)
    index = build_report("demo", *files, tmp_path / "out", {}).read_text("utf-8")
    assert '<span class="margin">–</span>' in index
    assert not re.search(r"\bnan\b", index, re.IGNORECASE)


def test_the_command_reads_its_inputs_from_a_file(files: Files, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.json"
    given = {
        "run": "named in the file",
        "scores": list(map(str, files.scores)),
        "samples": list(map(str, files.samples)),
    }
    inputs.write_text(json.dumps(given | {"facts": FACTS}), "utf-8")
    command = [sys.executable, str(SCRIPTS / "report.py"), f"--inputs={inputs}", f"--out={tmp_path / 'out'}"]
    subprocess.run(command, check=True, timeout=120)
    text = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<h1>named in the file</h1>" in text
    assert "23 November 2026, 22:31 UTC" in text


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "report.py"), "--run=demo", f"--out={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "no score file was given" in done.stderr
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "out").exists()


LIMIT = {"limit": 40, "samples": 40, "of": 14042, "group_by": "subject", "groups": 1, "of_groups": 57}
SAID = "first 40 of 14,042 rows; 1 of 57 subjects"


def test_a_limit_is_said_wherever_a_score_is(tmp_path: Path) -> None:
    files = write_results(tmp_path / "in", missing=(), n=40)
    for path in files.scores:
        scores = json.loads(path.read_text("utf-8"))
        scores["dataset"] |= {"limit": LIMIT} if path.stem.startswith("demo_capitals@") else {}
        path.write_text(json.dumps({key: part for key, part in scores.items() if key != "sha256"}), "utf-8")
    group = {"name": "both", "members": ["demo_capitals", "demo_arithmetic"]}
    out = tmp_path / "out"
    build_report("demo", files.scores, files.samples, out, {}, groups=[group])
    index = (out / "index.html").read_text("utf-8")
    lead = index.partition('<p class="lead">')[2].partition("</p>")[0]
    assert "both: 1 of 2 data sets in part" in lead
    board = index.partition('id="leaderboard"')[2].partition("</section>")[0]
    assert board.count(SAID) >= 2
    charts = (out / "charts.html").read_text("utf-8")
    assert charts.partition('id="scores"')[2].partition("</section>")[0].count(SAID) >= 2
    for model in range(2):
        assert SAID in read_index(out, "demo_capitals")["models"][model]["summary"]
        assert "in part" not in str(read_index(out, "demo_arithmetic")["models"][model]["summary"])
    markdown = (out / "leaderboard.md").read_text("utf-8")
    assert markdown.partition("\n")[0].count(SAID) == 1
    rows = list(csv.DictReader((out / "leaderboard.csv").open(encoding="utf-8")))
    limits = {row["dataset"]: row["limit"] for row in rows}
    assert limits["demo_capitals"] == SAID
    assert limits["demo_arithmetic"] == ""
    assert "in part" in limits["both"]


def test_a_report_follows_the_umask(tmp_path: Path) -> None:
    files = write_results(tmp_path / "in", ["demo_tiny"], ["demo_capitals"])
    before = os.umask(0o027)
    try:
        build_report("demo", files.scores, files.samples, tmp_path / "out", {})
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.joinpath("out").rglob("*")} <= {"0o750", "0o640"}
    assert oct((tmp_path / "out").stat().st_mode & 0o777) == "0o750"
