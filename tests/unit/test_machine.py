"""Which GPUs a run may take, and what the machine is made of. Without a driver to ask, names are ids."""

from pathlib import Path

import pytest

from shardmark.plan.machine import Gpu, hardware, visible_gpus

UUIDS = ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1f2e3d4c-0000-1111-2222-333344445555"]
MIG = ["MIG-4f5a5f9c-6b3a-5d5c-9d5e-0c2b1f6a7d8e", "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"]


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("0", ["0"]),
        ("6,7", ["6", "7"]),
        ("3, 1 ,2", ["3", "1", "2"]),
        (",".join(UUIDS), UUIDS),
        ("GPU-8932f937", ["GPU-8932f937"]),
        (",".join(MIG), MIG),
        (f"1,{UUIDS[0]}", ["1", UUIDS[0]]),
        ("", []),
        ("  ", []),
        ("-1", []),
        ("-1,0,1", []),
        ("0,1,-1,2", ["0", "1"]),
        ("0,", ["0"]),
        ("0,,1", ["0"]),
        ("NoDevFiles", []),
        ("none", []),
        ("0,x,1", ["0"]),
        ("0,1,0", ["0", "1"]),
    ],
)
def test_gpus_are_those_that_cuda_visible_devices_names(
    monkeypatch: pytest.MonkeyPatch, visible: str, ids: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus(tuple) == ids


def install_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A machine whose only program is this nvidia-smi."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


INSTALLED = [Gpu(UUIDS[0]), Gpu(UUIDS[1], (MIG[0], "MIG-77")), Gpu("GPU-cc")]


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        (None, [UUIDS[0], MIG[0], "MIG-77", "GPU-cc"]),
        ("0", [UUIDS[0]]),
        ("2,0", ["GPU-cc", UUIDS[0]]),
        (f"{UUIDS[0]},0,2", [UUIDS[0], "GPU-cc"]),
        ("GPU-8932", [UUIDS[0]]),
        ("GPU-,2", []),
        ("1", [MIG[0]]),
        (f"MIG-77,{UUIDS[1]}", ["MIG-77", MIG[0]]),
        (MIG[1], [MIG[1]]),
        ("2,3,0", ["GPU-cc"]),
        ("6,7", []),
        ("2,GPU-dd,0", ["GPU-cc"]),
    ],
)
def test_a_gpu_has_one_id_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, ids: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus(lambda: INSTALLED) == ids


def test_without_the_variable_all_gpus_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"GPU {n}: NVIDIA H100 80GB HBM3 (UUID: {uuid})" for n, uuid in enumerate(UUIDS)]
    lines.insert(1, f"  MIG 1g.10gb     Device  0: (UUID: {MIG[0]})")
    listing = "\\n".join(lines)
    install_nvidia_smi(tmp_path, monkeypatch, f'test "$*" = -L && printf "{listing}\\n"')
    assert visible_gpus() == [MIG[0], UUIDS[1]]


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed'; exit 9", "echo 'No devices were found'"])
def test_a_driver_that_fails_offers_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, script)
    assert visible_gpus() == []


def test_a_machine_without_a_driver_offers_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == []


def test_the_driver_is_not_asked_where_no_gpu_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, f"touch {tmp_path}/asked")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    assert not (tmp_path / "asked").exists()


def test_the_hardware_is_described() -> None:
    facts = hardware()
    assert facts.keys() == {"cpu", "cores", "memory_gb", "system"}
    assert all(facts.values())
