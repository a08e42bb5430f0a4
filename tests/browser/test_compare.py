"""The page of comparisons in a browser: any two models, two prompts of one data set, and samples that flipped."""

from pathlib import Path

import pytest

from browser.conftest import Open
from shardmark.report.build import build_report
from shardmark.report.compared import compare_models
from shardmark.report.formats import number
from shardmark.report.groups import Group
from shardmark.report.paired import Comparisons
from shardmark.report.results import read_results
from shardmark.tools.compare import comparison_table
from unit.report.fake_results import write_results
from unit.report.test_paired import prompts

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.slow]


def test_any_two_models_are_compared_and_the_address_says_which(visit: Open, report: Path) -> None:
    page = visit(report / "compare.html", "#kind=models&first=demo_base&second=demo_large")
    row = page.locator("tbody tr", has_text="demo_arithmetic")
    row.wait_for()
    before = row.locator("td").all_text_contents()
    page.get_by_role("button", name="Swap").click()
    page.wait_for_function("location.hash.includes('first=demo_large')")
    after = page.locator("tbody tr", has_text="demo_arithmetic").locator("td").all_text_contents()
    signs = str.maketrans("+−", "−+")
    assert after[0] == before[0].translate(signs)
    assert (after[4], after[5]) == (before[5], before[4])
    page.get_by_label("Second").select_option("demo_tiny")
    page.get_by_text("demo_large is significantly better on 3, demo_tiny on 0 of 3 data sets").wait_for()
    assert "no results of both" in page.locator("tbody").text_content()


def test_the_page_says_what_the_terminal_says(visit: Open, tmp_path: Path) -> None:
    files = write_results(tmp_path, n=80)
    group = Group("both", ["demo_arithmetic", "demo_capitals"])
    report = build_report("run", *files, tmp_path / "out", {}, groups=[vars(group)]).parent
    found = compare_models(Comparisons(read_results(*files, groups=[group])), "demo_base", "demo_large")
    told = [list(column.cells) for column in comparison_table(found).columns]
    wanted = {row[0]: [str(cell).rstrip(" *") for cell in row[2:]] for row in zip(*told, strict=True)}
    page = visit(report / "compare.html", "#kind=models&first=demo_base&second=demo_large")
    page.locator("tfoot tr").wait_for()
    cells = [row.locator("td").all_text_contents() for row in page.locator("tbody tr, tfoot tr").all()]
    assert [row[:2] + row[3:8] for row in cells] == list(wanted.values())
    assert next(iter(wanted)) == "both"
    numbers = [0.0625, -0.0625, 0.28125, 1 / 3, -2 / 3, 0.0, 0.9999, 1.25e-5, 1.25e-9, 24691.4, 123456.0, 2.5e30]
    shown = page.evaluate("values => values.map((each) => [figure(each, true), figure(each, false)])", numbers[:7])
    assert shown == [[number(each, True), number(each)] for each in numbers[:7]]
    assert page.evaluate("values => values.map((each) => figure(each))", numbers) == list(map(number, numbers))
    assert page.evaluate("values => values.map(shownP)", [0.0625, 0.3125, 2e-4]) == ["0.063", "0.313", "< 0.001"]


def test_the_two_best_models_come_first_and_columns_sort(visit: Open, report: Path) -> None:
    page = visit(report / "compare.html")
    page.locator("tbody tr").first.wait_for()
    assert [page.get_by_label(name).input_value() for name in ("First", "Second")] == ["demo_large", "demo_base"]
    page.get_by_label("Second").select_option("demo_tiny")
    page.get_by_text("no results of both").wait_for()
    page.get_by_role("button", name="Difference").click()
    values = page.locator("tbody tr:not(.absent) .d").evaluate_all(
        "cells => cells.map(cell => Number(cell.dataset.sort))"
    )
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert page.locator("tbody tr").last.get_attribute("class") == "absent"


def test_flipped_samples_stand_side_by_side_and_open_in_the_explorer(visit: Open, report: Path) -> None:
    page = visit(report / "compare.html", "#kind=models&first=demo_base&second=demo_large")
    button = page.get_by_role("button", name="flipped samples of demo_capitals")
    flipped = button.text_content()
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"demo_capitals: {flipped} samples flipped").wait_for()
    assert page.locator(".flip").count() == int(flipped)
    page.locator(".flip summary").first.click()
    sides = page.locator(".flip").first.locator(".sides > div")
    sides.first.wait_for()
    assert sides.count() == 2
    name = page.locator(".flip bdi").first.text_content()
    sides.first.get_by_role("link", name="demo_base").click()
    page.locator("#sample").get_by_text(name).first.wait_for()


def test_two_prompts_are_compared_model_by_model(visit: Open, tmp_path: Path) -> None:
    prompts(tmp_path, {"plain": list(range(40)), "letters": list(range(30))})
    files = [sorted((tmp_path / kind).rglob("*.json*")) for kind in ("scores", "samples")]
    report = build_report("run", *files, tmp_path / "out", {}).parent
    page = visit(report / "compare.html", "#kind=datasets&first=letters&second=plain&flips=a", width=400)
    page.locator(".flip").first.wait_for()
    assert page.locator("tbody th").evaluate_all("cells => cells.map(cell => cell.firstChild.textContent)") == [
        "a",
        "b",
    ]
    wins, losses, ties = (int(text) for text in page.locator("tbody tr").first.locator("td").all_text_contents()[4:7])
    assert wins + losses + ties == 30
    assert page.locator(".flip").count() == wins + losses
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
