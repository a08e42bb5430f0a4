"""Models and data sets of the Hub: pinned, kept for plans without a network, and clear about what is wrong.

The Hub is tests/fake_hub.py; tests/hub_site.py has the project and its clients.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_hub import SIGNATURE, FakeHub
from hub_site import PLAN, ROOT, ROWS, Site, hub_site, safetensors, weights, with_own_rows
from projects import change_yaml, write_rows

CARD = """---
configs:
- config_name: en
  default: true
  data_files: [{split: test, path: en/test.jsonl}]
- config_name: de
  data_files: [{split: test, path: de/test.jsonl}, {split: train, path: de/train.jsonl}]
---
"""
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TEMPLATE = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
KINDS = [("model", "model"), ("dataset", "data")]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """An empty Hub."""
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def site(hub: FakeHub, tmp_path: Path) -> Site:
    """A project with model `m` (org/model) and data set `d` (org/data), both in the Hub."""
    return hub_site(hub, tmp_path)


@pytest.fixture
def questions(site: Site) -> Site:
    """The same with a model in a folder, so that only the data set comes from the Hub."""
    site.model("m", path=str(ROOT / "demo/models/small"), max_out_len=16)
    return site


@pytest.fixture
def answers(site: Site) -> Site:
    """The same with rows in a file, so that only the model comes from the Hub: planning is then much faster."""
    return with_own_rows(site)


@pytest.mark.slow
def test_main_is_pinned_until_its_entry_is_deleted(site: Site) -> None:
    pinned = {kind: site.hub.repositories[kind, f"org/{name}"].refs["main"] for kind, name in KINDS}
    first = site.plan()
    lock = {"model": {"org/model@main": pinned["model"]}, "dataset": {"org/data@main": pinned["dataset"]}}
    assert site.pins() == lock
    text = site.lock.read_text()

    newer = {
        "model": site.push("model", "org/model", weights(safetensors(b"better weights"))),
        "dataset": site.push("dataset", "org/data", {"test.jsonl": [ROWS[0] | {"question": "2 + 2?"}]}),
    }
    assert site.plan() == first
    assert site.lock.read_text() == text

    site.lock.unlink()
    second = site.plan()
    assert site.pins()["dataset"] == {"org/data@main": newer["dataset"]}
    assert second["models"][0]["source"]["identity"]["commit"] == newer["model"]
    assert second["models"][0]["digest"] != first["models"][0]["digest"]
    assert site.prompts(second["datasets"][0]) == {"Q: 2 + 2?\nA:"}

    shutil.rmtree(site.project / "results")
    shutil.rmtree(site.cache)
    site.lock.write_text(json.dumps(lock))  # as Shardmark 0.1 wrote it
    assert site.plan() == first, "the committed lock gives the same on another machine"
    assert site.lock.read_text() == text

    # Without the Hub, `datasets` would take the commit that its cache has for the one that is pinned.
    site.lock.write_text(json.dumps(lock | {"dataset": {"org/data@main": newer["dataset"]}}))
    message = site.refused(HF_HUB_OFFLINE="1")
    assert "config/datasets/d.yaml: source.hub: cannot read org/data: commit " + newer["dataset"] in message
    assert "fix: run once without HF_HUB_OFFLINE" in message


@pytest.mark.slow
def test_a_chat_template_is_fetched_when_it_is_asked_for_and_kept_in_the_lock(answers: Site) -> None:
    templated = {"tokenizer_config.json": json.dumps({"chat_template": TEMPLATE})}
    answers.push("model", "org/chat", weights() | templated)
    answers.push("model", "org/base", weights())
    for name in ("chat", "base"):
        answers.model(name, path=f"org/{name}")
    answers.configure(["chat", "base"], ["d"], apply_chat_template="auto")

    def asked(**environment: str) -> set[bool]:
        records = answers.plan(**environment)["datasets"]
        return {record["is_chat"] for record in records}

    assert asked() == {True, False}
    noted = json.loads(answers.lock.read_text())["models"]
    assert [noted[name]["hub"]["chat_template"] is None for name in ("chat", "base")] == [False, True]
    shutil.rmtree(answers.cache)
    assert asked(HF_HUB_OFFLINE="1") == {True, False}, "the lock knows"

    answers.lock.write_text(json.dumps(json.loads(answers.lock.read_text()) | {"models": {}}))
    message = answers.refused(HF_HUB_OFFLINE="1")
    assert "config/models/chat.yaml: path: apply_chat_template is auto, but the tokenizer of org/chat cannot" in message
    assert "set apply_chat_template to true or false" in message


def test_chats_that_a_template_on_the_hub_refuses_are_refused_by_the_plan(answers: Site) -> None:
    refuses = TEMPLATE + "{{ raise_exception('no chats on Saturdays') }}"
    templated = {"tokenizer_config.json": json.dumps({"chat_template": refuses})}
    answers.push("model", "org/chat", weights() | templated)
    answers.push("model", "org/base", weights())
    for name in ("chat", "base"):
        answers.model(name, path=f"org/{name}")
    answers.configure(["chat", "base"], ["d"], apply_chat_template=True)
    message = answers.refused()
    assert "config/models/chat.yaml: meta_template: model chat cannot be asked the chats of data set d" in message
    assert "refuses its messages: no chats on Saturdays (of user)" in message
    assert "config/models/base.yaml: meta_template: data set d asks in chats, but model base has neither" in message


def test_a_branch_a_tag_and_a_commit_are_pinned_each_for_itself(answers: Site) -> None:
    commits = {
        "v1": answers.push("model", "org/model", weights(b"one"), ref="v1"),
        "refs/pr/1": answers.push("model", "org/model", weights(b"two"), ref="refs/pr/1"),
    }
    commits[commits["v1"]] = commits["v1"]
    names = {f"m{number}": revision for number, revision in enumerate(commits)}
    for name, revision in names.items():
        answers.model(name, path="org/model", revision=revision)
    answers.configure(list(names), ["d"])
    records = answers.plan()["models"]
    assert [record["source"]["identity"]["commit"] for record in records] == list(commits.values())
    assert records[0]["digest"] == records[2]["digest"], "the tag and its commit are the same weights"
    assert answers.pins()["model"] == {f"org/model@{r}": c for r, c in commits.items()}


@pytest.mark.slow
def test_the_hub_and_a_local_copy_ask_the_same(questions: Site, tmp_path: Path) -> None:
    questions.push("dataset", "org/parquet", {"data/test-00000-of-00001.parquet": ROWS, "README.md": "# Rows"})
    write_rows(tmp_path / "root/copy.jsonl", ROWS)
    asked = {"prompt": "{{ question }} {{ weight }} {{ more.text if more }}", "id_column": "id"}
    questions.dataset("d", {"hub": "org/data", "local": "copy.jsonl"}, **asked)
    questions.dataset("p", {"hub": "org/parquet", "local": "copy.jsonl"}, **asked)
    questions.configure(["m"], ["d", "p"], max_shard_size=1)
    jsonl, parquet = questions.plan()["datasets"]
    questions.configure(["m"], ["d", "p"], max_shard_size=1, data_root=str(tmp_path / "root"))
    local, _ = questions.plan()["datasets"]
    assert len(questions.requests(local)) > 1
    assert questions.requests(jsonl) == questions.requests(parquet) == questions.requests(local)
    assert jsonl["digest"] == parquet["digest"] == local["digest"], "what is judged is the same as well"


@pytest.mark.slow
def test_configurations_splits_and_converted_branches(questions: Site) -> None:
    rows = {path: [ROWS[0] | {"question": path}] for path in ("en/test.jsonl", "de/test.jsonl", "de/train.jsonl")}
    questions.push("dataset", "org/tongues", {"README.md": CARD} | rows)
    questions.dataset("plain", {"hub": "org/tongues"})
    questions.dataset("german", {"hub": "org/tongues", "config": "de", "split": "train"})
    converted = {
        f"{config}/test/0000.parquet": [{"text": config, "pronoun": "it", "options": ["a", "b"], "label": 1}]
        for config in ("wsc273", "wsc285")
    }
    questions.push("dataset", "ErnestSDavis/winograd_wsc", {"winograd_wsc.py": "a script"})
    questions.push("dataset", "ErnestSDavis/winograd_wsc", converted, ref="refs/convert/parquet")
    shutil.copy(ROOT / "config/datasets/winograd_ppl.yaml", questions.project / "config/datasets")
    questions.configure(["m"], ["plain", "german", "winograd_ppl"])
    plain, german, winograd = questions.plan()["datasets"]
    assert questions.prompts(plain) == {"Q: en/test.jsonl\nA:"}
    assert questions.prompts(german) == {"Q: de/train.jsonl\nA:"}
    task = questions.project / f"results/tasks/winograd_ppl@{winograd['digest']}.jsonl"
    header, line = map(json.loads, task.read_text().splitlines())
    assert header["dataset"]["rows"] == winograd["samples"] == 1
    assert (line["row"]["text"], line["target"]) == ("wsc285", 1)


@pytest.mark.slow
def test_after_a_first_run_no_network_is_needed(site: Site) -> None:
    first = site.plan()
    folders = site.staged()
    site.environment["HF_HUB_OFFLINE"] = "1"
    asked = len(site.hub.requests)
    assert site.plan() == first
    assert site.staged() == folders
    pinned = site.lock.read_text()
    site.lock.unlink()
    shutil.rmtree(site.project / "results")
    again = site.plan()
    for made in (first, again):
        made["models"][0]["source"].pop("parameters")  # which only the Hub tells, or what has been staged
    assert again == first
    assert site.lock.read_text() == re.sub(r',\s+"(parameters|files|bytes)": \d+', "", pinned)
    change_yaml(site.project / "config/datasets/d.yaml", prompt="And now: {{ question }}")
    assert "And now: 1 + 1?" in site.prompts(site.plan()["datasets"][0])
    assert len(site.hub.requests) == asked


@pytest.mark.parametrize(
    ("variable", "value", "reason", "fix"),
    [
        ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set", "run once without HF_HUB_OFFLINE"),
        ("HF_ENDPOINT", "http://127.0.0.1:9", "cannot reach the Hub", "check the network and HF_ENDPOINT"),
    ],
)
def test_without_network_and_cache_each_file_is_named(
    site: Site, variable: str, value: str, reason: str, fix: str
) -> None:
    message = site.refused(**{variable: value})
    assert "2 problems found" in message
    for place, name in (
        ("config/models/m.yaml: path:", "org/model"),
        ("config/datasets/d.yaml: source.hub:", "org/data"),
    ):
        (line,) = (line for line in message.splitlines() if place in line)
        assert reason in line
        assert name in line
    assert message.count(f"fix: {fix}") == 2
    assert not site.lock.exists()


@pytest.mark.slow
def test_a_hub_that_fails_is_no_reason_to_forget_what_is_in_the_cache(answers: Site) -> None:
    first = answers.plan()
    answers.lock.unlink()
    answers.hub.down = True
    assert answers.plan() == first
    answers.lock.unlink()
    message = answers.refused(HF_HOME=str(answers.folder / "empty"))
    assert "config/models/m.yaml: path: cannot reach the Hub for org/model (Server error '503" in message


@pytest.mark.slow
def test_every_mistake_is_reported_at_once(site: Site) -> None:
    site.push("model", "org/closed", weights())
    site.push("dataset", "org/closed", {"test.jsonl": ROWS})
    site.hub.gate("model", "org/closed")
    site.hub.gate("dataset", "org/closed")
    site.push("dataset", "org/tongues", {"README.md": CARD.replace("  default: true\n", ""), "en/test.jsonl": ROWS})
    site.push("dataset", "org/script", {"script.py": "print()"})
    site.push("dataset", "org/broken", {"test.jsonl": '{"question": 1}\n{"question": \n'})
    site.push("dataset", "org/rotten", {"test.parquet": b"not parquet at all"})
    site.push(
        "dataset", "org/folders", {"a/test/0.parquet": ROWS, "b/test/0.parquet": ROWS}, ref="refs/convert/parquet"
    )
    models: dict[str, dict[str, str]] = {
        "no_model": {"path": "org/modell"},
        "closed_model": {"path": "org/closed"},
        "no_revision": {"path": "org/model", "revision": "v9"},
        "bad_name": {"path": "org/a--b"},
    }
    datasets: dict[str, dict[str, str]] = {
        "no_data": {"hub": "org/dataa"},
        "closed_data": {"hub": "org/closed"},
        "no_such_revision": {"hub": "org/data", "revision": "0" * 40},
        "no_split": {"hub": "org/data", "split": "validation"},
        "no_config": {"hub": "org/data", "config": "de"},
        "which_config": {"hub": "org/tongues"},
        "which_folder": {"hub": "org/folders", "revision": "refs/convert/parquet"},
        "script": {"hub": "org/script"},
        "broken": {"hub": "org/broken"},
        "rotten": {"hub": "org/rotten"},
    }
    for name, settings in models.items():
        site.model(name, **settings)
    for name, source in datasets.items():
        site.dataset(name, source)
    site.configure(list(models), list(datasets))
    message = site.refused()
    expected = {
        "models/no_model.yaml: path: the Hub has no model 'org/modell'": "correct the name",
        "models/closed_model.yaml: path: org/closed is gated": "accept its terms on https://huggingface.co/org/closed",
        "models/no_revision.yaml: revision: org/model has no revision 'v9'": "give one of its branches",
        "models/bad_name.yaml: path: the Hub has no model 'org/a--b'": "correct the name",
        "datasets/no_data.yaml: source.hub: the Hub has no data set 'org/dataa'": "correct the name",
        "datasets/closed_data.yaml: source.hub: org/closed is gated": "https://huggingface.co/datasets/org/closed",
        "datasets/no_such_revision.yaml: source.revision: org/data has no revision": "give one of its branches",
        "datasets/no_split.yaml: source.split: cannot read org/data: Unknown split": "name one of its splits",
        "datasets/no_config.yaml: source.config: cannot read org/data": "name one of its configurations",
        "datasets/which_config.yaml: source.config: cannot read org/tongues": "name one of its configurations",
        "datasets/which_folder.yaml: source.config: cannot read org/folders": "name one of its configurations",
        "datasets/script.yaml: source.revision: cannot read org/script": "try refs/convert/parquet",
        "datasets/broken.yaml: source.hub: cannot read org/broken: JSON parse error": "data_root",
        "datasets/rotten.yaml: source.hub: cannot read org/rotten": "data_root",
    }
    assert f"{len(expected)} problems found" in message
    lines = message.splitlines()
    for what, fix in expected.items():
        (place,) = (number for number, line in enumerate(lines) if f"config/{what}" in line)
        line, advice = lines[place + 1 : place + 3]
        assert line.startswith(f"    line: config/{what.partition(':')[0]}:")
        assert advice.startswith("    fix: ")
        assert fix in advice
    for known in ("'test'", "'en', 'de'", "only a, b"):
        assert known in message, "what there is instead"


@pytest.mark.slow
def test_the_pinned_commit_is_staged_although_a_download_is_cut(answers: Site) -> None:
    size = 24 << 20  # the client keeps pieces of 10 MiB
    content = safetensors(os.urandom(2 * size - len(safetensors(bytes(size)))))
    answers.push("model", "org/model", weights(content))
    answers.push("model", "org/words", weights(safetensors(b"weights of another model")))
    answers.model("m", path="org/model", tokenizer_path="org/words")
    answers.plan()
    answers.push("model", "org/model", weights(safetensors(b"better weights")))
    answers.hub.cuts = 1
    model, tokenizer = answers.staged()
    assert (model / "model.safetensors").read_bytes() == content
    assert {file.name for file in model.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert {file.name for file in tokenizer.iterdir()} == {"config.json", "tokenizer.json"}
    cut, rest = (r for r in answers.hub.requests if r.host.startswith("localhost"))
    assert (cut.range, cut.sent) == (None, 12 << 20)
    assert rest.range == f"bytes={10 << 20}-", "it went on behind the last whole piece"


@pytest.mark.slow
def test_a_failed_download_names_the_model_and_keeps_what_is_whole(answers: Site) -> None:
    answers.plan()
    offline = answers.stage(HF_HUB_OFFLINE="1")
    answers.hub.gate("model", "org/model")
    closed = answers.stage()
    answers.hub.repositories["model", "org/model"].readers = None
    answers.hub.storage_down = True
    broken = answers.stage()
    for done, fix in (
        (offline, "run once without HF_HUB_OFFLINE"),
        (closed, "accept its"),
        (broken, "check the network"),
    ):
        assert done.returncode == 1
        place, advice = done.stderr.rstrip().splitlines()[-2:]
        assert place.startswith("config/models/m.yaml: path: cannot download org/model@")
        assert advice.startswith(f"    fix: {fix}")
        assert "Traceback" not in done.stderr
    assert not (answers.project / "results/staged.json").exists()
    whole = {file.name for file in answers.cache.glob("hub/models--org--model/snapshots/*/*")}
    answers.hub.storage_down = False
    before = len(answers.hub.requests)
    model, _ = answers.staged()
    assert (model / "model.safetensors").read_bytes() == safetensors(b"weights")
    assert not whole & {Path(r.path).name for r in answers.hub.requests[before:]}


@pytest.mark.slow
def test_the_token_opens_gated_repositories_and_is_told_to_nobody(site: Site) -> None:
    token, refused = "hf_" + "t0ken" * 6, "hf_" + "wr0ng" * 6
    for kind, name in KINDS:
        site.hub.gate(kind, f"org/{name}", token)
    messages = [site.refused(HF_TOKEN=refused)]
    assert messages[0].count("the Hub does not accept the token for org/") == 2
    assert messages[0].count("fix: correct HF_TOKEN") == 2
    site.environment["HF_TOKEN"] = token
    planned = site.client("-c", PLAN)
    site.hub.cuts = 1
    staged = site.stage()
    assert (planned.returncode, staged.returncode) == (0, 0), planned.stderr + staged.stderr
    messages += [planned.stdout, planned.stderr, staged.stdout, staged.stderr]
    log = (site.project / "results/stage.log").read_text()
    assert "/storage/" in log, "downloads are in the log, and still:"
    written = [file for folder in (site.project, site.cache) for file in folder.rglob("*") if file.is_file()]
    for text in [*messages, *(file.read_text(errors="replace") for file in written)]:
        assert token not in text
        assert refused not in text
        assert SIGNATURE not in text
    assert {r.token for r in site.hub.requests if r.host.startswith("127.0.0.1")} >= {token}
    assert {r.token for r in site.hub.requests if r.host.startswith("localhost")} == {None}
