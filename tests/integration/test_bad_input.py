"""Wrong input gives one list of clear errors before anything runs."""

from pathlib import Path

from workflow import Project

CONFIG = {"run": "test", "models": ["demo_small"], "datasets": ["demo_grammar"], "limit": 5}


def test_all_mistakes_are_reported_at_once_without_a_traceback(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    project.configure(**CONFIG | {"models": ["demo_smal", "broken", "gpus"], "datasets": ["demo_*", "winogradd_ppl"]})
    config = project.folder / "config"
    (config / "models/broken.yaml").write_text("path: demo/models/nowhere/at/all\nnum_gpus: 0\nbatchsize: 3\n")
    (config / "models/gpus.yaml").write_text("path: demo/models/small\nnum_gpus: 4\n")
    project.edit_yaml("config/datasets/demo_arithmetic.yaml", prompt="Q: {{ questoin }}")
    project.edit_yaml("config/datasets/demo_comparison.yaml", target="label + 4")
    (config / "datasets/more").mkdir()
    (config / "datasets/more/demo_strings.yaml").write_text("kind: generate\n")
    (project.folder / "demo/data/grammar.jsonl").write_text('{"id": 1}\n{"id": \n')
    output = project.run(succeeds=False)
    for expected in (
        "demo_smal.yaml",
        "did you mean 'demo_small'",
        "config/models/broken.yaml: batchsize: unknown key",
        "did you mean 'batch_size'",
        "config/models/gpus.yaml: num_gpus: model gpus needs 4 GPUs, but this machine has 0",
        "config/datasets/demo_arithmetic.yaml: prompt: row 0, 1, 2 and 2 more: no column 'questoin'",
        "did you mean 'question'",
        "label 7 is outside the 4 choices",
        "has the same name 'demo_strings'",
        "demo/data/grammar.jsonl:2: not valid JSON",
        "did you mean 'winograd_ppl'",
    ):
        assert expected in output
    assert "Traceback" not in output
    assert not (project.folder / "results/predictions").exists()


def test_a_wrong_key_in_the_configuration_names_the_nearest(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG, limt=3)
    output = project.run(succeeds=False)
    assert "config/test.yaml: limt: unknown key" in output
    assert "did you mean 'limit'?" in output
    assert "Traceback" not in output


def test_a_configuration_that_snakemake_cannot_read_is_named_without_its_traceback(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    with open(project.folder / "config/test.yaml", "a") as file:
        file.write("note: 2026-02-30\n")
    without_profile = project.plain("--cores", "1")
    assert without_profile.returncode
    for output in (project.run(succeeds=False), without_profile.stdout + without_profile.stderr):
        assert "config/test.yaml:" in output
        assert "not valid YAML: '2026-02-30' is not a valid value: day is out of range" in output
        assert "Traceback" not in output


def test_weights_that_cannot_be_loaded_name_the_model_and_its_file(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    weights = project.folder / "demo/models/small/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    output = project.run("--retries", "0", succeeds=False)
    assert "config/models/demo_small.yaml" in output
    assert "Traceback" not in output
