"""The explorer of samples: lists, filters, addresses, samples, keyboard, search and download."""

import json
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Open
from shardmark.report.build import build_report
from unit.report.fake_results import Files, make_samples, make_scores, write_pair

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def count(page: Any) -> int:
    return int("".join(filter(str.isdigit, page.locator("#count").inner_text())))


def ids(page: Any) -> list[str]:
    return list(page.locator(".item .id").all_inner_texts())


@pytest.mark.parametrize("way", ["file", "http"])
def test_a_permanent_link_opens_a_sample_from_files_and_from_a_server(
    visit: Open, report: Path, site: str, way: str
) -> None:
    place: Path | str = report / "samples.html" if way == "file" else f"{site}/samples.html"
    page = visit(place, "#dataset=demo_capitals&model=demo_tiny&sample=capital%2F001%20Japan")
    page.locator(".choices").wait_for()
    assert page.locator(".sample h2").inner_text() == "capital/001 Japan"
    assert page.locator(".choices .gold td.text > span:first-child").inner_text() == "Tokyo"
    assert page.locator(".answer-card").count() == 1
    shares = page.locator(".choices tbody td:nth-child(2)").all_inner_texts()
    assert sum(float(share.rstrip(" %")) for share in shares) == pytest.approx(100, abs=0.3)
    assert page.locator(".item.active .id").inner_text() == "capital/001 Japan"


def test_filters_narrow_the_list_and_stand_in_the_address(visit: Open, report: Path) -> None:
    page = visit(report / "samples.html")
    assert count(page) == 120 + 116 + 60 + 120
    page.locator("#dataset").select_option("demo_arithmetic")
    assert count(page) == 120
    page.locator("#models-chosen").click()
    page.get_by_role("checkbox", name="demo_tiny").check()
    page.locator("#verdict").select_option("wrong")
    wrong = count(page)
    page.locator("#verdict").select_option("right")
    assert wrong + count(page) == 120
    page.locator("#group").select_option("carry")
    carry = count(page)
    page.locator("#group").select_option("no carry")
    assert 0 < carry < 120 > wrong + carry + count(page) - 1
    assert "dataset=demo_arithmetic&model=demo_tiny&group=no%20carry&verdict=right" in page.url
    again = visit(report / "samples.html", "#" + page.url.partition("#")[2])
    assert count(again) == count(page)
    assert again.locator("#verdict").input_value() == "right"


def test_marks_and_disagreement_are_filters(visit: Open, report: Path) -> None:
    page = visit(report / "samples.html", "#dataset=demo_arithmetic")
    page.locator("#marks-chosen").click()
    page.get_by_role("checkbox", name="models disagree").check()
    rows = page.locator(".item .verdicts").all_inner_texts()
    assert rows
    assert all("✓" in row and "✗" in row for row in rows)
    page.get_by_role("checkbox", name="models disagree").uncheck()
    page.get_by_role("checkbox", name="no answer found").check()
    unanswered = count(page)
    assert 0 < unanswered < 120
    page.get_by_role("checkbox", name="prompt cut").check()
    assert count(page) <= 1


def test_verdicts_stand_in_the_order_of_models_with_a_gap_for_one_that_was_not_asked(visit: Open, report: Path) -> None:
    page = visit(report / "samples.html", "#dataset=demo_reading_comprehension")
    assert page.locator("#verdicts-of").inner_text() == "verdicts of demo_large, demo_base, demo_tiny, in this order"
    strip = page.locator(".item .verdicts").first.locator("i")
    assert strip.count() == 3
    assert strip.last.get_attribute("class") == "absent"
    assert page.locator("#group").is_visible()
    page.locator("#dataset").select_option("demo_translation")
    assert not page.locator("#group").is_visible()


def test_the_list_makes_elements_only_of_rows_in_sight(visit: Open, report: Path) -> None:
    page = visit(report / "samples.html")
    assert page.locator(".item").count() < 40
    page.locator("#list").evaluate("list => list.scrollTop = list.scrollHeight")
    page.locator(f".item[aria-posinset='{count(page)}']").wait_for()
    assert page.locator(".item").count() < 40


def test_the_keyboard_alone_reaches_a_sample(visit: Open, report: Path) -> None:
    page = visit(report / "samples.html", "#dataset=demo_arithmetic")
    page.locator("#download").focus()
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.id") != "list":
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.locator(".sample h2", has_text="arith-0001").wait_for()
    page.keyboard.press("End")
    page.locator(".sample h2", has_text="arith-0119").wait_for()
    assert page.locator(".item.active").get_attribute("aria-selected") == "true"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "sample"


def test_search_finds_names_at_once_and_texts_when_asked(visit: Open, report: Path) -> None:
    page = visit(report / "samples.html")
    page.locator("#search").fill("japan")
    assert 0 < count(page) == len(ids(page))
    assert all("Japan" in name for name in ids(page))
    page.locator("#search").fill("station")
    assert count(page) == 0
    page.locator("#search").press("Enter")
    page.get_by_text("texts searched").wait_for()
    assert count(page) > 10
    assert all(name.startswith("tr-") for name in ids(page))


def test_the_listed_samples_can_be_downloaded_as_they_were_scored(visit: Open, report: Path) -> None:
    page = visit(report / "samples.html", "#dataset=demo_capitals&model=demo_base&verdict=wrong")
    with page.expect_download() as download:
        page.locator("#download").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text("utf-8").splitlines()]
    assert len(lines) == count(page)
    samples = {sample["sample"]: sample for sample in make_samples("demo_base", "demo_capitals")}
    for line in lines:
        assert {key: line[key] for key in samples[line["sample"]]} == samples[line["sample"]]
        assert (line["model"], line["dataset"]) == ("demo_base", "demo_capitals")


@pytest.mark.slow
def test_a_sample_shows_what_each_filter_did(visit: Open, tmp_path: Path) -> None:
    files = Files([], [])
    samples = make_samples("m", "demo_arithmetic", 4)
    output = " 🌧️ The sum of both of these numbers is 42.\nQ: <b>"
    first, cut = [[1, 43]], "the sum"
    for sample in samples:
        sample |= {"output": output, "answer": "42", "steps": {"": {"1": first, "2": [cut]}}}
    samples[1] |= {"answer": None, "steps": {"": {"0": [None]}}}
    samples[2] |= {"outputs": [output, "x"], "answers": {"": ["42"]}, "steps": {"": {"1": [*first, "y"]}}}
    del samples[3]["steps"]
    scores = make_scores("m", "demo_arithmetic", samples)
    scores["provenance"]["config"]["dataset"] = {"filters": [{"name": "first_line"}, "lowercase", "last_number"]}
    write_pair(tmp_path, files, scores, samples)
    out = build_report("demo", *files, tmp_path / "out", {}).parent

    def shown(number: int) -> list[list[str]]:
        page = visit(out / "samples.html", f"#dataset=demo_arithmetic&sample=arith-000{number}")
        page.locator("details.steps summary").click()
        page.locator(".filter-steps").wait_for()  # made once it is unfolded
        found = page.locator(".filter-steps > li").all()
        return [[step.locator("code").inner_text(), *step.locator("pre, p").all_inner_texts()] for step in found]

    line = "🌧️ The sum of both of these numbers is 42."
    assert shown(0) == [["first_line", line], ["lowercase", cut], ["last_number", "42"]]
    same = ["changes nothing"]
    nothing = ["what the filters were given", "nothing extracted"]
    assert shown(1) == [nothing, ["first_line", *same], ["lowercase", *same], ["last_number", *same]]
    assert shown(2) == [["first_line", line, "y"], ["lowercase", *same], ["last_number", "42"]]
    earlier = visit(out / "samples.html", "#dataset=demo_arithmetic&sample=arith-0003")
    assert earlier.locator("p.steps").inner_text() == "output → first_line → lowercase → last_number → answer"
    page = visit(out / "samples.html", "#dataset=demo_arithmetic")
    with page.expect_download() as download:
        page.locator("#download").click()
    lines = [json.loads(text) for text in Path(download.value.path()).read_text("utf-8").splitlines()]
    assert [each.get("steps") for each in lines] == [each.get("steps") for each in samples]


@pytest.mark.slow
def test_a_chat_is_shown_as_each_model_was_sent_it(visit: Open, tmp_path: Path) -> None:
    files = Files([], [])
    prompt = "[system]\nBe brief. 🌧️\n[user]\n <b>1</b> + 1?\n"
    content = prompt.index(" <b>") + 1, prompt.index("?") + 1
    templates = {"llama": ("<|user|>", "<|assistant|>\n"), "other": ("[INST] ", " [/INST]"), "earlier": (), "api": ()}
    for model, around in templates.items():
        samples = make_samples(model, "demo_arithmetic", 2)
        for sample in samples:
            sample |= {"prompt": prompt, "request": "r"} | ({"sent": [around[0], content, around[1]]} if around else {})
        scores = make_scores(model, "demo_arithmetic", samples)
        scores["dataset"]["is_chat"] = True
        scores["provenance"]["config"]["model"] = {"api": "chat"} if model == "api" else {}
        write_pair(tmp_path, files, scores, samples)
    out = build_report("demo", *files, tmp_path / "out", {}).parent
    said = {"llama": "<|user|><b>1</b> + 1?<|assistant|>\n", "other": "[INST] <b>1</b> + 1? [/INST]"}
    notes = {"llama": "llama was sent", "other": "other was sent", "earlier": "An earlier version", "api": "endpoint"}
    for model, note in notes.items():
        page = visit(out / "samples.html", f"#dataset=demo_arithmetic&model={model}&sample=arith-0000")
        page.locator(".answer-body").wait_for()
        asked = page.locator(".asked pre").first
        assert asked.text_content() == said.get(model, prompt)
        assert asked.locator(".newline").count() == (model != "other"), "the white space at its end is marked"
        assert note in page.locator(".asked .note").inner_text()
    page = visit(out / "samples.html", "#dataset=demo_arithmetic&model=other&model=llama&sample=arith-0000")
    first = page.locator(".answer-card .name").first.inner_text()
    (second,) = said.keys() - {first}
    page.get_by_text("The prompt as this model was sent it").click()
    assert page.locator(".asked pre").first.text_content() == said[first]
    assert page.locator(".answer-body details pre").first.text_content() == said[second]
    with page.expect_download() as download:
        page.locator("#download").click()
    lines = [json.loads(text) for text in Path(download.value.path()).read_text("utf-8").splitlines()]
    assert [line["sent"][1] for line in lines] == [[*content]] * 4


HOSTILE = [
    "</script><script>window.ran = 1</script>", "<img src=x onerror='window.ran = 1'>", '"); window.ran = 1; ("',
    "javascript:window.ran=1", "\u202edesrever\u2066", "\0\x1b[31m\x7f\x85", "\ud800 \udc00", "<!--<script>",
    "&lt;b&gt;",
]  # fmt: skip


def hostile_samples() -> list[dict[str, Any]]:
    samples = make_samples("m", "demo_arithmetic", len(HOSTILE))
    for sample, text in zip(samples, HOSTILE, strict=True):
        keys = ("sample", "prompt", "output", "answer", "target", "group", "reasoning", "request")
        sample |= dict.fromkeys(keys, text) | {"row": {text: text}, "outputs": [text, text]}
        sample |= {"answers": {text: [text]}, "choices": [text] * 2, "logprobs": [-1.0, -2.0]}
        sample |= {"steps": {"": {"1": [text]}}, "sent": [text, [0, 3], text]}
    return samples


def test_nothing_in_a_sample_runs_and_nothing_in_it_hides(visit: Open, tmp_path: Path) -> None:
    files = Files([], [])
    samples = hostile_samples()
    write_pair(tmp_path, files, make_scores("m", "demo_arithmetic", samples), samples)
    files.samples[0].write_bytes(files.samples[0].read_bytes().replace(b"desrever", b"desrever \xff"))
    out = build_report("</script><script>window.ran = 1</script>", *files, tmp_path / "out", {}).parent
    page = visit(out / "samples.html")
    page.locator("#list").focus()
    for number in range(len(HOSTILE)):
        page.keyboard.press("ArrowDown")
        page.locator(f".item.active[aria-posinset='{number + 1}']").wait_for()
        page.locator(".answer-body").wait_for()
        for _ in range(2):  # what was folded may have more to unfold
            page.evaluate("for (const each of document.querySelectorAll('.sample details')) each.open = true")
            page.wait_for_timeout(20)
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.images.length + document.scripts.length") == 1
    bidi = next(row for row in page.locator(".item .id").all_inner_texts() if "desrever" in row)
    assert "⟨U+202E⟩" in bidi
    assert "\u202e" not in page.locator("body").inner_text()


def test_a_megabyte_in_a_line_is_cut_until_asked_for(visit: Open, tmp_path: Path) -> None:
    files = Files([], [])
    samples = make_samples("m", "demo_arithmetic", 3)
    samples[0] |= {"output": "x" + "\N{GRINNING FACE}" * 700_000, "row": {"id": 2**53 + 1}}
    write_pair(tmp_path, files, make_scores("m", "demo_arithmetic", samples), samples)
    out = build_report("demo", *files, tmp_path / "out", {}).parent
    page = visit(out / "samples.html", "#dataset=demo_arithmetic&sample=arith-0000")
    page.locator(".more-text").wait_for()
    assert len(page.locator(".answer-body pre").first.inner_text()) < 30_000
    page.locator(".more-text").click()
    assert len(page.locator(".answer-body pre").first.inner_text()) == 700_001
    assert page.locator(".hidden-mark").count() == 0  # no letter was cut in two
    page.get_by_text("Original row").click()
    page.get_by_text(str(2**53 + 1)).wait_for()


def test_a_missing_chunk_is_told(visit: Open, report: Path, tmp_path: Path, unwatched: list[str]) -> None:
    import shutil

    unwatched.append("ERR_FILE_NOT_FOUND")
    copy = shutil.copytree(report, tmp_path / "copy")
    for path in (copy / "data").glob("*.js"):
        if path.stat().st_size > 5000:
            path.unlink()
    page = visit(copy / "samples.html", "#dataset=demo_arithmetic&model=demo_large&sample=arith-0000")
    page.locator(".failed", has_text="missing or damaged").first.wait_for()
