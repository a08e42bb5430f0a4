"""certify.py asks two models the same, and the report shows how far they agree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workflow import ROOT, Project

MODELS = ["demo_small", "demo_medium"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(
        tmp_path / "project", run="test", models=MODELS, datasets=["demo_arithmetic", "demo_comparison"], limit=12
    )


def certify(project: Project, *models: str, count: int = 8) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts/certify.py"), "--configfile", "config/test.yaml"]
    options = ["--models", *models, "-n", str(count)]
    environment = project.environment()
    return subprocess.run([*command, *options], cwd=project.folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_certificate_names_two_models_that_are_asked_the_same(project: Project) -> None:
    done = certify(project, "demo_small", "demo_small")
    assert done.returncode == 1
    assert "--models: a certificate needs two models" in done.stderr
    done = certify(project, "demo_small", "nobody")
    assert done.returncode == 1
    assert "no file config/models/nobody.yaml" in done.stderr


@pytest.mark.slow
def test_a_certificate_is_made_kept_checked_and_shown(project: Project) -> None:
    project.run()
    done = certify(project, *MODELS)
    assert done.returncode == 0, done.stderr
    assert "their choices or texts differ" in done.stdout
    (path,) = (project.folder / "results/certificates").iterdir()
    certificate = json.loads(path.read_text())
    assert certificate["datasets"] == {"demo_arithmetic": 4, "demo_comparison": 4}
    assert certificate["between"]["writing"]["requests"] == 4
    assert certificate["between"]["scoring"]["requests"] == 4
    for party in certificate["parties"]:  # the engine's answers depend on no batch
        assert party["apart"]["writing"]["equal"] == 4
        assert party["apart"]["scoring"]["largest"] < 1e-4
    assert project.planned() == {"report": 1}
    project.run()
    page = (project.folder / "results/reports/test/provenance.html").read_text()
    assert "Certificates" in page
    assert "again in other batches" in page
    assert (project.folder / "results/reports/test/certificates" / path.name).read_bytes() == path.read_bytes()
    assert "all are intact" in project.run("--", "verify")
    assert "Nothing to be done" in project.run()
