"""One cluster for all tests of a file; with accounting if the file says `ACCOUNTING = True`."""

import os
from collections.abc import Iterator

import pytest

from requirements_check import need
from slurm_cluster import Cluster, cluster
from slurm_project import CONFIG, end_runs
from workflow import Project


@pytest.fixture(scope="module")
def running_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    accounting = getattr(request.module, "ACCOUNTING", False)
    need("slurmdbd" if accounting else "slurm")
    if os.geteuid():
        pytest.skip("starts a cluster of its own: run as root")
    with cluster(accounting) as here:
        yield here


@pytest.fixture
def slurm(running_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, without jobs before and after the test."""
    running_cluster.forget()
    yield running_cluster
    end_runs()
    running_cluster.forget()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The scores of a local run, without GPUs."""
    project = Project.create(tmp_path_factory.mktemp("local") / "project", **CONFIG)
    project.run()
    return project.scores()
