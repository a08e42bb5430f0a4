"""Models and data sets of the Hub are what the lock says, byte for byte, with a network and without.

The Hub is tests/fake_hub.py; tests/hub_site.py has the project and its clients.
"""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from fake_hub import FakeHub
from hub_site import ROOT, ROWS, Site, hub_site, safetensors, with_own_rows
from requirements_check import need

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """An empty Hub."""
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def site(hub: FakeHub, tmp_path: Path) -> Site:
    """A project with model `m` (org/model) in the Hub and data set `d` in a file."""
    return with_own_rows(hub_site(hub, tmp_path))


def tampered(path: Path) -> Path:
    """Another last byte in the file that a link of the cache leads to."""
    blob = path.resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return blob


def command(site: Site, script: str, *options: str, **environment: str) -> tuple[int, str]:
    path = str(ROOT / f"scripts/{script}.py")
    done = site.client(path, *options, "--configfile", "config/test.yaml", **environment)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_weights_that_were_changed_in_the_cache_are_refused_by_name_everywhere(site: Site) -> None:
    commit = site.plan()["models"][0]["source"]["identity"]["commit"]
    (known,) = json.loads(site.lock.read_text())["contents"]["model"].values()
    assert known["model.safetensors"]["size"] == len(safetensors(b"weights"))
    assert {"sha256", "git"} == {key for file in known.values() for key in file} - {"size"}
    model, _ = site.staged()
    asked = len(site.hub.requests)
    assert site.staged()[0] == model
    assert len(site.hub.requests) == asked, "what is there is not asked for"

    blob = tampered(model / "model.safetensors")
    refused = site.stage()
    assert refused.returncode == 1
    assert "config/models/m.yaml: path: model.safetensors of org/model in the cache: its content" in refused.stderr
    assert f"remove {blob} and run again" in refused.stderr
    status, said = command(site, "verify")
    assert status == 1
    assert f"damaged: {model / 'model.safetensors'}: its content is not that of its commit" in said
    site.configure(["m"], ["d"], frozen=True)
    assert "model.safetensors of org/model in the cache: its content" in site.refused()

    blob.unlink()
    site.configure(["m"], ["d"])
    assert (site.staged()[0] / "model.safetensors").read_bytes() == safetensors(b"weights")
    assert model.name == commit


def scores_of(site: Site) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (site.project / "results/scores").glob("*/*.json")}


def without_network(site: Site, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in the project, where there is no network but an empty loopback."""
    bwrap = [need("bwrap"), "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", sys.executable]
    return subprocess.run([*bwrap, *command], cwd=site.project, env=site.variables(), capture_output=True, text=True)


@pytest.mark.slow
def test_after_staging_a_run_completes_and_attempts_no_connection(site: Site) -> None:
    files = {path.name: path.read_bytes() for path in (ROOT / "demo/models/small").iterdir() if path.is_file()}
    site.push("model", "org/model", files | {"README.md": b"# A model"})
    site.model("m", path="org/model", max_out_len=4)
    site.dataset("d", {"hub": "org/data"})
    status, said = command(site, "stage_run")
    assert status == 0, said
    assert "org/model: downloading" in said
    assert "d: 3 rows" in said
    assert "everything is here: 1 repositories of models" in said
    newer = site.push("model", "org/model", files | {"config.json": b"{}"})
    assert newer not in site.lock.read_text()

    asked = len(site.hub.requests)
    site.configure(["m"], ["d"], offline=True)
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")  # whoever asks anybody asks this Hub
    site.environment |= dict.fromkeys(proxies, site.hub.url) | {"NO_PROXY": "", "no_proxy": ""}
    status, said = command(site, "preflight", "--cores", "1")
    assert (status, "nothing is missing for the 3 requests" in said) == (0, True), said
    snakemake = ("-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles/local"))
    done = site.client(*snakemake, "--configfile", "config/test.yaml")
    assert done.returncode == 0, done.stderr
    assert (site.project / "results/reports/default/index.html").is_file()
    assert len(site.hub.requests) == asked

    scores = scores_of(site)
    for name in ("predictions", "scores", "samples"):
        shutil.rmtree(site.project / "results" / name)
    done = without_network(site, *snakemake, "--configfile", "config/test.yaml")
    assert done.returncode == 0, done.stderr
    assert scores_of(site) == scores

    (folder,) = site.cache.glob("hub/models--org--model/snapshots/*")
    (folder / "tokenizer.json").resolve().unlink()
    for name in ("predictions", "scores", "samples"):
        shutil.rmtree(site.project / "results" / name)
    done = site.client(*snakemake, "--configfile", "config/test.yaml")
    assert done.returncode == 1
    assert "config/models/m.yaml: path: org/model@" in done.stderr
    assert "tokenizer.json (" in done.stderr
    assert "`snakemake stage --profile local`" in done.stderr
    assert "results/logs/stage" not in done.stderr, "no job was started"
    assert len(site.hub.requests) == asked


@pytest.mark.slow
def test_all_that_cannot_be_staged_is_one_list_and_the_rest_is_kept(site: Site) -> None:
    site.push("model", "org/closed", {"config.json": "{}", "model.safetensors": safetensors(b"x")})
    site.model("closed", path="org/closed")
    site.model("nowhere", path="org/nowhere")
    site.dataset("none", {"hub": "org/none"})
    site.configure(["m", "nowhere"], ["d", "none"])
    site.hub.busy = [(429, "1"), (503, "1")]
    status, said = command(site, "stage_run")
    assert status == 1
    assert "the Hub has no model 'org/nowhere'" in said
    assert "the Hub has no data set 'org/none'" in said
    assert "org/model: 95 bytes are here and intact" in said, "what could be had is here"
    site.configure(["m", "closed"], ["d"])
    assert command(site, "stage_run")[0] == 0
    shutil.rmtree(site.cache / "hub/models--org--closed/snapshots")
    site.hub.gate("model", "org/closed")
    status, said = command(site, "preflight", "--cores", "1")
    assert status == 1
    assert "config/models/closed.yaml: path: org/closed is gated" in said
    assert "accept its terms on https://huggingface.co/org/closed, then set HF_TOKEN or run `hf auth login`" in said


@pytest.mark.slow
def test_what_a_damaged_mirror_sends_is_not_kept(site: Site) -> None:
    site.plan()
    site.hub.wrong = 1
    refused = site.stage()
    assert refused.returncode == 1
    assert "model.safetensors of org/model in the cache: its content is not that of its commit" in refused.stderr
    assert "it has been removed: run again" in refused.stderr
    assert (site.staged()[0] / "model.safetensors").read_bytes() == safetensors(b"weights")


@pytest.mark.slow
def test_a_file_that_is_missing_without_a_network_is_named_with_its_size(site: Site) -> None:
    site.plan()
    model, _ = site.staged()
    (model / "tokenizer.json").resolve().unlink()
    refused = site.stage(**OFFLINE)
    assert refused.returncode == 1
    assert "cannot download org/model@" in refused.stderr
    assert "tokenizer.json (18 bytes) is not in the cache" in refused.stderr
    assert "`hf download org/model --revision" in refused.stderr


@pytest.mark.slow
def test_rows_are_pinned_as_they_are_read_and_may_come_from_what_hf_download_fetched(site: Site) -> None:
    site.model("m", path=str(ROOT / "demo/models/small"), max_out_len=16)
    site.dataset("d", {"hub": "org/data"})
    first = site.plan()["datasets"]
    (known,) = json.loads(site.lock.read_text())["contents"]["dataset"].values()
    (pushed,) = (site.folder / "pushed/org/data").rglob("test.jsonl")
    size = pushed.stat().st_size
    assert list(known) == ["test"]
    assert (known["test"]["files"], known["test"]["bytes"]) == (1, size)

    (kept,) = (site.cache / "shardmark/rows").iterdir()
    kept.write_text(kept.read_text().replace("mehr", "oder"))
    shutil.rmtree(site.project / "results")
    message = site.refused(**OFFLINE)
    assert f"config/datasets/d.yaml: source.hub: {kept} has other rows of org/data" in message
    status, said = command(site, "verify", **OFFLINE)
    assert status == 1
    assert f"damaged: {kept}: its rows are not those that config/benchmark.lock has" in said

    shutil.rmtree(site.cache)
    assert f"to download: 1 file, {size} bytes" in site.refused(**OFFLINE)
    commit = site.pins()["dataset"]["org/data@main"]
    asked = f"'org/data', repo_type='dataset', revision='{commit}'"
    assert site.client("-c", f"import huggingface_hub; huggingface_hub.snapshot_download({asked})").returncode == 0
    shutil.rmtree(site.project / "results", ignore_errors=True)
    assert site.plan(**OFFLINE)["datasets"] == first
    assert len(ROWS) == first[0]["rows"]


@contextmanager
def tinyproxy(folder: Path) -> Iterator[int]:
    """The port of a proxy that wants `name:pa55word`, and logs into tinyproxy.log."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = (f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 50", "BasicAuth name pa55word")
    config = folder / "tinyproxy.conf"
    config.write_text("\n".join([*lines, f'LogFile "{folder}/tinyproxy.log"', ""]))
    with subprocess.Popen([need("tinyproxy"), "-d", "-c", str(config)]) as process:
        try:
            for _ in range(500):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.02)
            yield port
        finally:
            process.kill()


@pytest.mark.slow
def test_a_proxy_tunnels_to_a_hub_whose_certificate_is_the_sites_own(site: Site, tmp_path: Path) -> None:
    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    site.hub.speak_tls(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    with tinyproxy(tmp_path) as port:

        def through(login: str, **more: str) -> dict[str, str]:
            proxy = f"http://{login}@127.0.0.1:{port}"
            return {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": "", "no_proxy": "", **more}

        trusted = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        unreachable = "config/models/m.yaml: path: cannot reach the Hub for org/model"
        assert unreachable in (refused := site.refused(**through("name:wr0ngword", **trusted)))
        assert unreachable in (unknown := site.refused(**through("name:pa55word")))
        assert "certificate" in unknown.lower()
        assert not site.hub.requests
        site.plan(**through("name:pa55word", **trusted))
        assert site.stage(**through("name:pa55word", **trusted)).returncode == 0
    tunnels = (tmp_path / "tinyproxy.log").read_text()
    assert all(f"CONNECT {host}:" in tunnels for host in ("127.0.0.1", "localhost"))
    assert "wr0ngword" not in refused


@pytest.mark.slow
def test_a_proxy_that_wants_a_password_is_used_and_its_password_is_told_to_nobody(site: Site) -> None:
    site.hub.proxy_login = "name:pa55word"
    port = site.hub.url.rpartition(":")[2]

    def through(login: str) -> dict[str, str]:
        proxy = f"http://{login}@127.0.0.1:{port}"
        return {
            "HTTP_PROXY": proxy,
            "http_proxy": proxy,
            "NO_PROXY": "",
            "no_proxy": "",
            "HF_ENDPOINT": "http://hub.test",
        }

    refused = site.refused(**through("name:wr0ngword"))
    assert "config/models/m.yaml: path: cannot reach the Hub for org/model" in refused
    site.plan(**through("name:pa55word"))
    site.hub.storage_down = True
    down = site.stage(**through("name:pa55word"))
    site.hub.storage_down = False
    assert (down.returncode, site.stage(**through("name:pa55word")).returncode) == (1, 0)
    assert {request.host.partition(":")[0] for request in site.hub.requests} == {"hub.test", "localhost"}
    written = [file for folder in (site.project, site.cache) for file in folder.rglob("*") if file.is_file()]
    for text in [refused, down.stderr, *(file.read_text(errors="replace") for file in written)]:
        assert "pa55word" not in text
        assert "wr0ngword" not in text
