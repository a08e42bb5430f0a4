"""One cluster for all tests here."""

import os
from collections.abc import Iterator

import pytest

from requirements_check import need
from slurm_cluster import Cluster, cluster
from slurm_project import CONFIG, end_runs
from workflow import Project


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    need("slurm")
    if os.geteuid():
        pytest.skip("starts a cluster of its own: run as root")
    with cluster() as here:
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
