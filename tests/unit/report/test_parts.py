"""What is taken from files of samples: chunks that models share, marks, scores; made once, and whatever the bytes."""

import base64
import json
import math
import os
import subprocess
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardmark.errors import UserError
from shardmark.files import file_sha256
from shardmark.records.sample import LAYERS, Sample, SampleParts, read_parts, read_sample, sample_line
from shardmark.report import build
from shardmark.report.build import build_report
from shardmark.report.chunks import Chunks
from shardmark.report.explorer import numbered
from shardmark.report.parts import (
    CUT,
    NO_ANSWER,
    REFUSED,
    TIED,
    TRUNCATED,
    VERDICTS,
    Part,
    Parts,
    group_means,
    verdict,
)
from shardmark.report.results import read_results
from shardmark.scoring.statistics import estimate_mean
from shardmark.store import hashes
from unit.report.fake_results import (
    FACTS,
    Files,
    make_sample,
    make_samples,
    make_scores,
    read_chunk,
    read_data,
    read_index,
    read_texts,
    write_pair,
    write_results,
)


@pytest.fixture(autouse=True)
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longest, and are none of these tests' business."""
    monkeypatch.setattr(build, "PAGES", [page for page in build.PAGES if page.title != "Charts"])


def part_of(folder: Path, samples: list[dict[str, Any]], dataset: str = "demo_arithmetic", **scores: Any) -> Part:
    files = Files([], [])
    about = make_scores("m", dataset, [sample | {"scores": {"accuracy": 1.0}} for sample in samples])
    write_pair(folder, files, about | scores, samples)
    (pair,) = read_results(*files)
    part = Parts(Chunks(folder)).of(pair)
    assert part is not None
    return part


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("score", "percent", "expected"),
    [
        (1.0, True, "right"),
        (0.0, True, "wrong"),
        (0.4, True, "partial"),
        (None, True, "unscored"),
        (1.0, False, "partial"),
    ],
)
def test_only_a_fraction_can_be_wholly_right_or_wrong(score: float | None, percent: bool, expected: str) -> None:
    assert verdict(score, percent) == expected


def test_every_key_of_a_sample_is_in_one_layer() -> None:
    keys = [key for layer in LAYERS.values() for key in layer]
    assert sorted(keys) == sorted(Sample.__struct_fields__) == sorted(SampleParts.__struct_fields__)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.text(), st.text(), JSON, st.lists(st.floats() | st.none()), st.booleans())
def test_a_line_in_layers_says_what_it_says(prompt: str, output: str, row: Any, logprobs: Any, tied: bool) -> None:
    line = sample_line(
        make_sample(prompt=prompt, output=output, row=row, logprobs=logprobs, tied=tied, scores={"a": 1.0})
    )
    sample = read_parts(line.encode())
    texts = [sample.layer(name) for name in LAYERS]
    assert not any(constant in text for text in texts for constant in (b"NaN", b"Infinity"))
    read = {key: value for text in texts for key, value in json.loads(text).items()}
    expected = (
        json.loads(msgspec.json.encode(_finite(json.loads(line)))) if not _lone(line) else _finite(json.loads(line))
    )
    assert read == {key: value for key, value in expected.items() if value is not None or key in read}


def _lone(line: str) -> bool:
    return "\\ud" in line


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("broken", [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_become_replacement_characters(tmp_path: Path, broken: bytes) -> None:
    files = write_results(tmp_path, ["m"], ["demo_arithmetic"], n=3)
    files.samples[0].write_bytes(files.samples[0].read_bytes().replace(b"Q: ", b"Q: " + broken))
    out = build_report("demo", *files, tmp_path / "out", {}).parent
    assert "\ufffd" in read_texts(out, "demo_arithmetic", "m")[0]["prompt"]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"sample": "a"}', b'{"sample": "\x01"}', b"\x00", b'{"nothing": NaN}'])
def test_a_line_that_is_no_sample_is_named(tmp_path: Path, line: bytes) -> None:
    files = write_results(tmp_path, ["m"], ["demo_arithmetic"], n=3)
    files.samples[0].write_bytes(files.samples[0].read_bytes() + line + b"\n")
    with pytest.raises(UserError, match=r"jsonl:4: "):
        build_report("demo", *files, tmp_path / "out", {})


def test_marks_tell_what_samples_are_filtered_by(tmp_path: Path) -> None:
    samples = make_samples("m", "demo_arithmetic", 6)
    for sample in samples:
        sample |= {"scores": {"accuracy": 1.0}, "answer": "1", "end": "stop", "truncated": 0}
    samples[0] |= {"answer": None, "scores": {"accuracy": 0.0}}
    samples[1] |= {"end": "length", "truncated": 3}
    samples[2] |= {"thought_cut": True, "scores": {"accuracy": 0.5}}
    samples[3] |= {"tied": True}
    samples[4] |= {"end": "refusal", "scores": {"accuracy": None}}
    part = part_of(tmp_path, samples, primary="accuracy")
    marks = array("H", part.marks)
    assert [VERDICTS[mark & 3] for mark in marks] == ["wrong", "right", "partial", "right", "unscored", "right"]
    assert [mark & ~3 for mark in marks] == [NO_ANSWER, CUT | TRUNCATED, CUT, TIED, REFUSED, 0]
    assert list(array("d", part.scores)) == pytest.approx([0.0, 1.0, 0.5, 1.0, math.nan, 1.0], nan_ok=True)


def test_an_index_of_choice_zero_is_an_answer(tmp_path: Path) -> None:
    samples = make_samples("m", "demo_capitals", 8)
    samples[0]["answer"] = 0
    assert not array("H", part_of(tmp_path, samples, "demo_capitals").marks)[0] & NO_ANSWER


def test_models_share_rows_and_prompts_but_not_answers(tmp_path: Path) -> None:
    files = Files([], [])
    for model in ("a", "b", "c"):
        samples = make_samples("a", "demo_capitals", 60)
        for sample in samples:
            sample["output"] = f"{model} said so"
            sample["prompt"] += " asked in a chat" if model == "c" else ""
        write_pair(tmp_path, files, make_scores(model, "demo_capitals", samples), samples)
    out = build_report("demo", *files, tmp_path / "out", {}).parent
    a, b, c = (each["layers"] for each in read_index(out, "demo_capitals")["models"])
    assert a["rows"] == b["rows"] == c["rows"]
    assert a["prompts"] == b["prompts"] != c["prompts"]
    assert len({str(each["answers"]) for each in (a, b, c)}) == 3
    assert [text["output"] for text in read_texts(out, "demo_capitals", "b")] == ["b said so"] * 56


def test_models_are_in_the_order_of_the_leaderboard(tmp_path: Path) -> None:
    files = write_results(tmp_path, ["demo_tiny", "demo_large"], ["demo_capitals"], n=40)
    out = build_report("demo", *files, tmp_path / "out", {}).parent
    assert read_data(out, "catalog")["models"] == ["demo_large", "demo_tiny"]
    assert [each["model"] for each in read_index(out, "demo_capitals")["models"]] == ["demo_large", "demo_tiny"]


def test_chunks_are_closed_by_samples_and_by_bytes(tmp_path: Path) -> None:
    samples = make_samples("m", "demo_arithmetic", 1203)
    samples[0]["output"] = "long " * 200_000
    part = part_of(tmp_path, samples)
    assert [stretch.start for stretch in part.layers["answers"]] == [0, 1, 501, 1001]
    assert [stretch.start for stretch in part.layers["prompts"]] == [0, 500, 1000]


def test_models_that_were_asked_other_rows_are_put_side_by_side(tmp_path: Path) -> None:
    files = Files([], [])
    samples = make_samples("a", "demo_arithmetic", 5)
    for model, own in (("a", samples[:4]), ("b", [samples[4], samples[2]])):
        write_pair(tmp_path, files, make_scores(model, "demo_arithmetic", own), own)
    found = read_index(build_report("demo", *files, tmp_path / "out", {}).parent, "demo_arithmetic")
    assert found["ids"] == [f"arith-{number:04}" for number in range(5)]
    in_order = sorted(found["models"], key=lambda each: str(each["model"]))
    a, b = ([*array("I", base64.b64decode(each["rows"]))] for each in in_order)
    assert a == [0, 1, 2, 3, 0xFFFFFFFF]
    assert b == [0xFFFFFFFF, 0xFFFFFFFF, 1, 0xFFFFFFFF, 0]


def test_ids_that_stand_twice_are_told_apart() -> None:
    assert numbered(["a", "b", "a", "a"]) == [("a", 0), ("b", 0), ("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    "text", ['"</script><script>alert(1)</script>', "\u2028\u2029\\", "<!--", "\x00\x1f\x7f", "\u202e"]
)
def test_a_chunk_is_one_call_with_letters_whatever_is_in_it(tmp_path: Path, text: str) -> None:
    chunks = Chunks(tmp_path)
    name = chunks.add({text: [text]})
    script = chunks.file(name).read_text("ascii")
    start, literal, end = script.split('"')[2:5]
    assert (start, end) == (",", ");\n")
    assert set(literal) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
    assert script.startswith(f'shardmark("{name}","')
    assert json.loads(read_chunk(script.encode())) == {text: [text]}


def test_a_report_has_the_same_bytes_however_it_came_about(tmp_path: Path) -> None:
    files = write_results(tmp_path, ["demo_large", "demo_tiny"], n=30)
    fresh = bytes_of(build_report("demo", *files, tmp_path / "fresh", FACTS).parent)
    assert bytes_of(build_report("demo", *files, tmp_path / "first", FACTS, kept=tmp_path).parent) == fresh
    again = build_report("demo", *files, tmp_path / "again", FACTS, kept=tmp_path).parent
    assert bytes_of(again) == fresh
    assert max(path.stat().st_nlink for path in (again / "data").iterdir()) > 2


def test_only_what_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_results(tmp_path, ["demo_large", "demo_tiny"], n=30)
    build_report("demo", *files, tmp_path / "out", {}, kept=tmp_path)
    read: list[Path] = []
    from shardmark.report import parts

    make = parts.make_part
    monkeypatch.setattr(parts, "make_part", lambda scores, path, *more: read.append(path) or make(scores, path, *more))
    changed = files.samples[2]
    changed.write_text(changed.read_text("utf-8").replace("I like cats", "I like dogs"), "utf-8")
    out = build_report("demo", *files, tmp_path / "out", {}, kept=tmp_path).parent
    assert read == [changed]
    assert "I like dogs" in str(read_texts(out, "demo_translation", "demo_large"))


def test_files_of_samples_that_did_not_change_are_not_even_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_results(tmp_path, ["demo_large", "demo_tiny"], n=30)
    build_report("demo", *files, tmp_path / "out", {}, kept=tmp_path)
    read: list[Path] = []
    monkeypatch.setattr(hashes, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    changed = files.samples[2]
    changed.write_text(changed.read_text("utf-8"), "utf-8")
    build_report("demo", *files, tmp_path / "out", {}, kept=tmp_path)
    assert read == [changed]


def test_a_kept_part_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    files = write_results(tmp_path, ["demo_large"], n=30)
    fresh = bytes_of(build_report("demo", *files, tmp_path / "out", {}, kept=tmp_path).parent)
    for number, path in enumerate(sorted((tmp_path / "parts").rglob("*.js"))):
        path.unlink() if number % 2 else os.replace(_file(tmp_path / "cut", path.read_bytes()[:-9]), path)
    assert bytes_of(build_report("demo", *files, tmp_path / "out", {}, kept=tmp_path).parent) == fresh


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_where_nothing_can_be_kept_the_report_is_made_all_the_same(tmp_path: Path) -> None:
    files = write_results(tmp_path, ["demo_large"], n=8)
    (tmp_path / "parts").write_text("in the way")
    assert build_report("demo", *files, tmp_path / "out", {}, kept=tmp_path).is_file()


def test_groups_have_their_own_means(tmp_path: Path) -> None:
    samples = make_samples("m", "demo_arithmetic", 12)
    groups = ["b", "a", "a", None, "c", *["d"] * 7]
    scores = [1.0, 0.0, 1.0, 1.0, None, *[1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]]
    for sample, group, score in zip(samples, groups, scores, strict=True):
        sample |= {"group": group, "scores": {"accuracy": score}}
    found = part_of(tmp_path, samples).means
    assert [group[:3] for group in found[:3]] == [("a", 2, 0.5), ("b", 1, 1.0), ("c", 1, None)]
    assert found[2].ci95 is None
    assert found[3].ci95 == estimate_mean(scores[5:]).ci95


def test_the_scripts_make_no_html_of_texts() -> None:
    import shardmark.report.render as render

    forbidden = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "srcdoc",
        "fetch(",
    )
    for path in render.TEMPLATES.glob("*.js"):
        assert not [word for word in forbidden if word in path.read_text("utf-8")], path


def test_settings_of_a_pair_are_a_chunk(tmp_path: Path) -> None:
    files = write_results(tmp_path, ["demo_large"], ["demo_arithmetic"], n=5)
    out = build_report("demo", *files, tmp_path / "out", {}).parent
    model, dataset = read_index(out, "demo_arithmetic")["models"][0]["settings"]
    assert read_data(out, model)["dtype"] == "float32"
    assert read_data(out, dataset)["max_new_tokens"] == 32


def test_reading_a_sample_and_its_parts_agree_on_defaults() -> None:
    line = sample_line(make_sample(scores={}))
    sample, parts = read_sample(line.encode()), read_parts(line.encode())
    for key in ("sample", "end", "tied", "alone", "within_thought", "thought_cut", "group", "truncated"):
        assert getattr(sample, key) == getattr(parts, key), key


def test_scripts_are_javascript() -> None:
    import shutil

    import shardmark.report.explorer as explorer
    from shardmark.report.render import source

    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to check the syntax with")
    done = subprocess.run([node, "--check", "-"], input=str(source(explorer.SCRIPTS)), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_interval_of_a_group_counts_clusters() -> None:
    (one,) = group_means(["g"] * 8, [1.0, 0.0] * 4, list("abababab"))
    (alone,) = group_means(["g"] * 8, [1.0, 0.0] * 4)
    assert one.ci95 == estimate_mean([1.0, 0.0] * 4, list("abababab")).ci95
    assert alone.ci95 == pytest.approx(estimate_mean([1.0, 0.0] * 4).ci95)
