"""Jobs that are forks of a run's warm processes give the scores that jobs give by themselves."""

import shutil

import pytest

from workflow import Project

pytestmark = pytest.mark.slow

CONFIG = {
    "run": "test",
    "models": ["demo_small"],
    "datasets": ["demo_arithmetic", "demo_grammar"],
    "limit": 8,
}


TOLD = """
import os
with open("started", "a") as file:
    socket, owner = sys.argv[2], int(sys.argv[4])
    file.write(f"{os.path.basename(socket)} {os.getppid() == owner}\\n")
"""
"Has a server say what it is and whether the run itself has started it."


def test_scores_and_samples_are_the_same_with_forks_and_without(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.create(tmp_path_factory.mktemp("warm") / "project", **CONFIG)
    server = project.folder / "scripts/forkserver.py"
    server.write_text(server.read_text().replace("\nimport argparse\n", f"\nimport argparse\nimport sys\n{TOLD}", 1))
    found = []
    for use in ("required", "off"):
        monkeypatch.setenv("SHARDMARK_FORKS", use)
        project.run()
        found.append({path.name: path.read_bytes() for path in (project.folder / "results").glob("s[ac]*/*/*.json*")})
        shutil.rmtree(project.folder / "results")
    started = (project.folder / "started").read_text().split("\n")[:-1]
    assert sorted(started) == ["score.forks True", "worker-transformers-1.forks True"]
    assert found[0] == found[1]
    assert len(found[0]) == 4
