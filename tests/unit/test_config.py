"""Settings are checked before anything runs; what is wrong is told with file, key and fix."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from projects import GENERATE, choice_settings, problems, write_dataset, write_model, write_yaml
from shardmark.config import Benchmark, DatasetConfig, RunConfig, load, schemas
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.base import validate
from shardmark.config.misplaced_keys import Reads, checked, partly_used
from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json

ROOT = Path(__file__).parents[2]
DATASET = {"source": {"file": "rows.jsonl"}} | GENERATE
CHOICE = {"source": {"file": "rows.jsonl"}, "kind": "choice", "prompt": "{{ q }}", "choices": "c", "target": "0"}
CHOICE |= {"metrics": ["accuracy"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the models `small` and `large`, and the data sets `sums` and `words`."""
    for name in ("small", "large"):
        write_model(tmp_path, name)
    for name in ("sums", "words"):
        write_dataset(tmp_path, name)
    return tmp_path


def load_with(root: Path, **config: Any) -> tuple[Benchmark, list[Problem]]:
    found: list[Problem] = []
    everything = {"models": ["*"], "datasets": ["*"]}
    return load(everything | config, root, "config/config.yaml", found), found


def read(root: Path, **config: Any) -> Benchmark:
    benchmark, found = load_with(root, **config)
    assert found == []
    return benchmark


def wrong(kind: type, settings: Any) -> list[str]:
    """The problems of one file's settings, as they are shown."""
    found: list[Problem] = []
    assert validate(kind, settings, "f.yaml", found) is None
    return [str(problem) for problem in found]


# The repository's own configuration


def test_the_schemas_in_the_repository_are_those_of_the_settings() -> None:
    there = {path.name: path.read_text("utf-8") for path in (ROOT / "config/schemas").iterdir()}
    assert there == {name: pretty_json(schema) for name, schema in schemas().items()}, "run `make schemas`"


def test_every_model_and_data_set_of_the_repository_is_valid() -> None:
    found: list[Problem] = []
    benchmark = load({"models": ["*"], "datasets": ["*"]}, ROOT, "config", found)
    assert found == []
    assert len(benchmark.models) >= 6


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_run_of_the_repository_is_valid(file: Path) -> None:
    found: list[Problem] = []
    validate(RunConfig, read_yaml(file, file.name, found), file.name, found)
    assert found == []


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_run_of_the_repository_finds_all_that_it_names(file: Path) -> None:
    found: list[Problem] = []
    benchmark = load(yaml.safe_load(file.read_text("utf-8")), ROOT, file.name, found)
    assert found == []
    assert benchmark.models
    assert benchmark.datasets


# Which models and data sets


def test_files_are_found_by_name_in_the_order_asked_for(root: Path) -> None:
    benchmark = read(root, models=["small", "large"], datasets=["words"])
    assert [model.name for model in benchmark.models] == ["small", "large"]
    assert [(d.name, d.file) for d in benchmark.datasets] == [("words", "config/datasets/words.yaml")]


def test_a_glob_names_each_file_once(root: Path) -> None:
    benchmark = read(root, models=["large", "*", "small"], datasets=["s*"])
    assert [model.name for model in benchmark.models] == ["large", "small"]
    assert [dataset.name for dataset in benchmark.datasets] == ["sums"]


def test_names_on_the_command_line_are_separated_by_commas(root: Path) -> None:
    assert [d.name for d in read(root, datasets="words, sums").datasets] == ["words", "sums"]


def test_files_may_lie_in_folders_of_their_own(root: Path) -> None:
    write_yaml(root / "config/datasets/mine/extra.yml", DATASET)
    assert read(root, datasets=["extra"]).datasets[0].file == "config/datasets/mine/extra.yml"


def test_an_unknown_name_is_told_with_the_nearest_one(root: Path) -> None:
    _, found = load_with(root, models=["smal"], datasets=["sums", "wrods"])
    assert [str(problem) for problem in found] == [
        "config/config.yaml: models: no file config/models/smal.yaml\n    fix: did you mean 'small'?",
        "config/config.yaml: datasets: no file config/datasets/wrods.yaml\n    fix: did you mean 'words'?",
    ]


def test_a_misspelt_list_of_names_is_told_once(root: Path) -> None:
    with pytest.raises(UserError) as refused:
        load({"modles": ["small"], "datasets": ["sums"]}, root, "config/config.yaml", [])
    found = refused.value.problems
    assert [(problem.key, problem.fix) for problem in found] == [("modles", "did you mean 'models'?")]


def test_naming_nothing_is_told_with_what_there_is(root: Path) -> None:
    _, found = load_with(root, models=[])
    (problem,) = found
    assert problem.what == "names nothing"
    assert problem.fix.startswith("models: [NAME, ...]; known: ")
    assert {"large", "small", "demo_small"} <= {*problem.fix.partition("known: ")[2].split(", ")}


def test_two_files_with_one_name_are_refused(root: Path) -> None:
    write_yaml(root / "config/models/more/small.yml", {"path": "x"})
    (problem,) = load_with(root)[1]
    assert problem.where == "config/models/more/small.yml"
    assert problem.what == "config/models/small.yaml has the same name 'small'"


def test_an_editors_hidden_file_is_no_data_set(root: Path) -> None:
    (root / "config/datasets/.#half.yaml").write_text("kind: [")
    assert load_with(root)[1] == []


@pytest.mark.parametrize("name", ["a b", "a@b", "-x", "é"])
def test_a_name_that_makes_no_good_folder_is_refused(root: Path, name: str) -> None:
    write_yaml(root / f"config/datasets/{name}.yaml", DATASET)
    (problem,) = load_with(root)[1]
    assert problem.what == f"{name!r} cannot be the name of one of the datasets"
    assert "letters, digits" in problem.fix


# YAML


def broken(tmp_path: Path, content: bytes) -> Problem:
    path = tmp_path / "m.yaml"
    path.write_bytes(content)
    found: list[Problem] = []
    assert read_yaml(path, "m.yaml", found) is None
    (problem,) = found
    return problem


def test_a_file_that_cannot_be_read_is_not_called_invalid(tmp_path: Path) -> None:
    found: list[Problem] = []
    assert read_yaml(tmp_path, "m.yaml", found) is None
    assert [problem.what for problem in found] == ["cannot be read: Is a directory"]


@pytest.mark.parametrize(("written", "read"), [("010", "8"), ("-007", "-7"), ("1:30", "90"), ("1:30.5", "90.5")])
def test_a_number_that_yaml_reads_as_another_is_an_error(tmp_path: Path, written: str, read: str) -> None:
    problem = broken(tmp_path, f"a: 0\nb: {written}\n".encode())
    assert problem.where == "m.yaml:2"
    assert f"YAML reads {written} as {read}: write that, or put {written!r} in quotes" in problem.what


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    problem = broken(tmp_path, b"path: a\nnum_gpus: 1\nmodel_kwargs: {}\nnum_gpus: 2\n")
    assert problem.where == "m.yaml:2"
    assert problem.what == "not valid YAML: key 'num_gpus' occurs twice"


def test_a_key_that_stands_twice_deep_inside_is_refused(tmp_path: Path) -> None:
    assert broken(tmp_path, b"a:\n  - {b: 1, b: 2}\n").where == "m.yaml:2"


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        (b"path: a\nprompt: [\n", "m.yaml:3", "expected the node content"),
        (b"prompt: {{ question }}\n", "m.yaml:1", "found unhashable key"),
        (b"path: \x00\n", "m.yaml", "special characters are not allowed"),
        (b"a:\n\tb: 1\n", "m.yaml:2", "found character '\\t'"),
        (b"path: \xff\n", "m.yaml", "not UTF-8: byte 7 is 0xff"),
        (b"path: !!python/object/apply:os.getcwd []\n", "m.yaml:1", "could not determine a constructor"),
    ],
    ids=["bracket", "unquoted template", "control character", "tab", "not UTF-8", "python tag"],
)
def test_broken_yaml_names_its_place(tmp_path: Path, content: bytes, place: str, what: str) -> None:
    problem = broken(tmp_path, content)
    assert problem.where == place
    assert what in problem.what
    assert "\n" not in problem.what


def test_a_colon_in_a_text_is_told_with_the_quotes_that_it_needs(tmp_path: Path) -> None:
    assert broken(tmp_path, b"prompt: Q: {{ question }}\n").fix.startswith("put a text with a colon in quotes")


def test_a_folder_with_the_name_of_a_file_is_a_problem_too(root: Path) -> None:
    (root / "config/models/folder.yaml").mkdir()
    (problem,) = load_with(root)[1]
    assert problem.where == "config/models/folder.yaml"


def test_anchors_and_merged_keys_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("model_kwargs: &base {a: 1, b: 2}\ntokenizer_kwargs: {<<: *base, b: 3}\n")
    found: list[Problem] = []
    assert read_yaml(tmp_path / "m.yaml", "m.yaml", found)["tokenizer_kwargs"] == {"a": 1, "b": 3}
    assert found == []


# What may stand in a file


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "m", "batchsize": 3}, "f.yaml: batchsize: unknown key\n    fix: did you mean 'batch_size'?"),
        ({}, "f.yaml: give exactly one of path, gguf_file and gguf_package"),
        ({"path": "m", "gguf_file": "f"}, "f.yaml: give exactly one of path, gguf_file and gguf_package"),
        ({"path": "m", "num_gpus": -1}, "f.yaml: num_gpus: input should be greater than or equal to 0 (found -1)"),
        ({"path": "m", "dtype": "fp16"}, "f.yaml: dtype: input should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ({"path": "m", "batch_size": "aut"}, "f.yaml: batch_size: input should be a valid integer, unable to parse "),
        ({"path": "m", "batch_size": 0}, "f.yaml: batch_size: input should be greater than 0, or input should be "),
        ({"path": 3}, "f.yaml: path: input should be a valid string (found 3)"),
        ({"path": "m", "model_kwargs": "a"}, "f.yaml: model_kwargs: input should be a valid dictionary (found 'a')"),
        ({"path": "m", 1: 2}, "f.yaml: 1: keys should be strings"),
        (["path"], "f.yaml: expected keys and values, found list\n    fix: write each setting as `key: value`"),
    ],
)
def test_a_wrong_model_file_is_told(settings: Any, said: str) -> None:
    (problem,) = wrong(TransformersConfig, settings)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promt": "x"}, "f.yaml: promt: unknown key\n    fix: did you mean 'prompt' or 'parts'?"),
        ({"stop": ["x"]}, "f.yaml: stop: unknown key\n    fix: it belongs in generation"),
        ({"generation": {"kind": "x"}}, "f.yaml: generation.kind: unknown key\n    fix: it belongs at the top level"),
        ({"generation": {"max_tokens": 3}}, "f.yaml: generation.max_tokens: unknown key\n    fix: did you mean 'max_n"),
        (
            {"generation": {"top_p": 0.9, "seed": 3}},
            "f.yaml: generation: top_p, seed: only used if temperature is above 0",
        ),
        ({"generation": {"temperature": -1}}, "f.yaml: generation.temperature: input should be greater than or equal"),
        ({"generation": {"temperature": 1, "top_p": 0}}, "f.yaml: generation.top_p: input should be greater than 0"),
        ({"generation": {"min_new_tokens": 300}}, "f.yaml: generation: min_new_tokens 300 is more than max_new_tokens"),
        ({"generation": {"samples": 2}}, "f.yaml: generation: samples above 1 are all the same unless temperature"),
        (
            {"metrics": ["pass_at_2"]},
            "f.yaml: metrics.0.name: there is no 'pass_at_2'\n    fix: did you mean 'pass_at_k'?",
        ),
        (
            {"metrics": [{"name": "pass_at_k", "k": 2}]},
            "f.yaml: metrics.0.k: k 2 is more than the answers per request: generation.samples is 1\n    fix: set gen",
        ),
        (
            {"metrics": [{"name": "pass_at_k", "k": 3}], "generation": {"temperature": 1, "samples": 4}}
            | {"chains": {"all": ["strip"], "two": [{"name": "take_first", "k": 2}]}},
            "f.yaml: metrics.0.k: k 3 is more than the answers per request: chain 'two' leaves 2",
        ),
        (
            {"metrics": ["squad", "squad"]},
            "f.yaml: metric squad occurs twice in metrics: give one of them its own `label`",
        ),
        ({"metrics": [{"name": "bleu", "label": "a b"}]}, "f.yaml: metrics.0.label: string should match pattern"),
        ({"chains": {"a": ["strip"]}, "filters": ["strip"]}, "f.yaml: give filters or chains, not both"),
        ({"chains": {"a,b": ["strip"]}}, "f.yaml: chains.a,b: string should match pattern"),
        (
            {"chains": {"a": ["stripe"]}},
            "f.yaml: chains.a.0.name: there is no 'stripe'\n    fix: did you mean 'strip'?",
        ),
        (
            {"chains": {"strict": []}, "metrics": [{"name": "squad", "chain": "strikt"}]},
            "f.yaml: metric squad: there is no chain 'strikt'; did you mean 'strict'?",
        ),
        (
            {"source": {"fil": "x", "hub": "y"}},
            "f.yaml: source.fil: unknown key\n    fix: did you mean 'file' or 'field'?",
        ),
        ({"source": {}}, "f.yaml: source: give exactly one of hub, file and synthetic"),
        ({"source": {"hub": "a", "file": "b"}}, "f.yaml: source: give exactly one of hub, file and synthetic"),
        (
            {"kind": "generat"},
            "f.yaml: kind: input should be 'generate', 'choice', 'loglikelihood' or 'rolling' (found 'generat')",
        ),
        ({"prompt": None}, "f.yaml: give prompt, or messages for a chat, or both"),
        (
            {"prompt": None, "messages": [{"role": "user", "content": "x"}], "apply_chat_template": False},
            "f.yaml: apply_chat_template is false, but there are only messages",
        ),
        (
            {"prompt": None, "messages": [{"role": "system", "content": "x"}]},
            "f.yaml: the last message must be of role user, or assistant",
        ),
        ({"prompt": None, "messages": [{"role": "bot", "content": "x"}]}, "f.yaml: messages.0.role: input should be"),
        ({"target": None}, "f.yaml: kind generate needs target"),
        (
            {"kind": "rolling", "target": None},
            "f.yaml: metric exact_match reads generated text: kind rolling needs one such as byte_perpl",
        ),
        ({"kind": "rolling"}, "f.yaml: kind rolling has no target"),
        (
            {"kind": "loglikelihood"},
            "f.yaml: metric exact_match reads generated text: kind loglikelihood needs one such as accuracy",
        ),
        ({"few_shot": {"answer": "x"}}, "f.yaml: few_shot: count is missing: how many examples?"),
        ({"few_shot": {"count": 1, "ids": [1]}}, "f.yaml: few_shot: ids has no effect: only pick ids uses it"),
        ({"few_shot": {"pick": "ids"}}, "f.yaml: few_shot: pick ids needs ids: [...]"),
        (
            {"few_shot": {"pick": "bm26", "count": 1}},
            "f.yaml: few_shot.pick: input should be 'first', 'ids', 'random',",
        ),
        ({"few_shot": {"pick": "embedding", "count": 1}}, "f.yaml: few_shot: pick embedding needs embedding_model"),
        (
            {"few_shot": {"count": 1, "source": {"split": "train"}}},
            "f.yaml: few_shot.source names neither a file, as source does, nor",
        ),
        ({"metrics": []}, "f.yaml: metrics: list should have at least 1 item"),
        ({"metrics": ["exact"]}, "f.yaml: metrics.0.name: there is no 'exact'\n    fix: did you mean 'exact_match'?"),
        (
            {"metrics": ["accuracy"]},
            "f.yaml: metric accuracy compares choices: kind generate needs one such as exact_match",
        ),
        ({"metrics": [{"name": "exact_match", "tolerance": -1}]}, "f.yaml: metrics.0.tolerance: input should be great"),
        ({"filters": ["strip", "first_option"]}, "f.yaml: filters.1.options: is required\n    fix: add it"),
        ({"filters": [{"name": "regex", "pattern": "("}]}, "f.yaml: filters.0.pattern: not a regular expression: "),
        (
            {"metrics": [{"name": "exact_match", "ignore_patterns": ["ok", "("]}]},
            "f.yaml: metrics.0.ignore_patterns.1: not a regular expression: ",
        ),
        ({"generation": {"stop": [""]}}, "f.yaml: generation.stop.0: string should have at least 1 character"),
        (
            {"metrics": [{"name": "f1", "average": "binary", "positive": 1}]},
            "f.yaml: metrics.0.positive: input should be a valid string (found 1)\n    fix: put it in quotes",
        ),
        (
            {"filters": [{"name": "map", "values": {True: "A"}}]},
            "f.yaml: filters.0.values.1: input should be a valid string (found True)\n    fix: put it in quotes",
        ),
        ({"filters": [{"name": "cut", "marker": ""}]}, "f.yaml: filters.0.marker: string should have at least 1"),
        ({"filters": [{"name": "strip", "marker": "x"}]}, "f.yaml: filters.0.marker: unknown key"),
        ({"few_shot": {"examples": [], "answer": "x"}}, "f.yaml: few_shot.examples: list should have at least 1 item"),
        ({"few_shot": {"examples": ["x"], "answer": "x"}}, "f.yaml: few_shot.examples.0: input should be a valid dict"),
        ({"choices": ["a"]}, "f.yaml: kind generate has no choices"),
        ({"scoring": "sum", "continuation": "x"}, "f.yaml: kind generate has no continuation, scoring"),
        ({"chance": 1.5}, "f.yaml: chance: input should be less than or equal to 1 (found 1.5)"),
        (
            {"source": "x.csv"},
            "f.yaml: source: expected keys and values (found 'x.csv')\n    fix: write {KEY: VALUE, ...}",
        ),
        ({"source": {"file": ""}}, "f.yaml: source: give exactly one of hub, file and synthetic"),
        ({"generation": None}, "f.yaml: generation: expected keys and values (found None)\n    fix: write {KEY: VALUE"),
        ({"metrics": "f1"}, "f.yaml: metrics: input should be a valid list (found 'f1')\n    fix: write a list: [f1]"),
        (
            {"generation": {"stop": "\n"}},
            "f.yaml: generation.stop: input should be a valid list (found '\\n')\n    fix: write a list: [\"\\n\"]",
        ),
        ({"metrics": [1]}, "f.yaml: metrics.0: expected a name, or keys and values (found 1)\n    fix: write NAME, or"),
    ],
)
def test_a_wrong_data_set_file_is_told(changes: dict[str, Any], said: str) -> None:
    (problem,) = wrong(DatasetConfig, DATASET | changes)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choices": None}, "f.yaml: kind choice needs choices"),
        ({"choices": 5}, "f.yaml: choices: input should be a valid string, or input should be a valid list (found 5)"),
        ({"filters": ["strip"]}, "f.yaml: kind choice has no filters"),
        (
            {"metrics": ["pass_at_k"]},
            "f.yaml: metric pass_at_k reads generated text: kind choice needs one such as accuracy",
        ),
        ({"generation": {}}, "f.yaml: kind choice has no generation"),
        ({"scoring": "ppl"}, "f.yaml: scoring: input should be 'sum', 'token', 'char', 'byte' or 'perplexity'"),
        (
            {"scoring": "perplexity", "continuation": "{{ choice }}"},
            "f.yaml: scoring perplexity uses the whole prompt",
        ),
    ],
)
def test_a_wrong_data_set_with_choices_is_told(changes: dict[str, Any], said: str) -> None:
    (problem,) = wrong(DatasetConfig, CHOICE | changes)
    assert problem.startswith(said)


def test_true_is_no_number_within_mappings_either() -> None:
    wrong: list[Problem] = []
    run = {"models": ["*"], "datasets": ["*"], "mean_weights": {"sums": True}, "max_cost": True}
    assert validate(RunConfig, run, "config.yaml", wrong) is None
    assert sorted(problem.key for problem in wrong) == ["max_cost", "mean_weights.sums"]


def test_every_wrong_key_of_a_file_is_told_at_once() -> None:
    found = wrong(DatasetConfig, {"kind": "choice", "promt": "x", "target": 3})
    assert [problem.split(": ")[1] for problem in found] == ["source", "target", "metrics", "promt"]


def test_a_name_alone_is_short_for_a_metric_or_filter_without_options() -> None:
    short = DatasetConfig.model_validate(DATASET | {"filters": ["strip"]})
    long = DatasetConfig.model_validate(
        DATASET | {"filters": [{"name": "strip"}], "metrics": [{"name": "exact_match"}]}
    )
    assert short == long


def test_dates_in_examples_become_text_as_in_rows() -> None:
    examples = yaml.safe_load("- {question: When, answer: 1969-07-20}")
    settings = DatasetConfig.model_validate(DATASET | {"few_shot": {"examples": examples, "answer": "{{ answer }}"}})
    assert settings.model_dump()["few_shot"]["examples"] == [{"question": "When", "answer": "1969-07-20"}]
    assert json.dumps(settings.model_dump())


def test_mistakes_in_several_files_are_told_together(root: Path) -> None:
    write_yaml(root / "config/models/bad.yaml", {"path": "x", "num_gpu": 1})
    write_yaml(root / "config/datasets/bad.yaml", DATASET | {"kind": "chat"})
    (root / "config/datasets/worse.yaml").write_text("a: [")
    benchmark, found = load_with(root, models=["*", "gone"])
    assert [(problem.where, problem.key) for problem in found] == [
        ("config/config.yaml", "models"),
        ("config/models/bad.yaml", "num_gpu"),
        ("config/datasets/worse.yaml:1", ""),
        ("config/datasets/bad.yaml", "kind"),
    ]
    assert {model.name for model in benchmark.models} == {"small", "large"}  # the rest is checked further


# The run


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"limt": 3}, "config/config.yaml: limt: unknown key\n    fix: did you mean 'limit'?"),
        ({"limit": 0}, "config/config.yaml: limit: input should be greater than 0 (found 0)"),
        ({"limit": "ten"}, "config/config.yaml: limit: input should be a valid integer"),
        ({"run": "a b"}, "config/config.yaml: run: string should match pattern"),
        ({"run": "../x"}, "config/config.yaml: run: string should match pattern"),
        ({"max_shard_size": 0}, "config/config.yaml: max_shard_size: input should be greater than 0"),
        ({"models": 3}, "config/config.yaml: models: input should be a valid list (found 3)"),
        ({"model_kwargs": {"a": 1}}, "config/config.yaml: model_kwargs: only for hf_path"),
        ({"revision": "x", "tokenizer_path": "y"}, "config/config.yaml: revision, tokenizer_path: only for hf_path"),
        ({"hf_path": "m", "model_kwargs": "auto"}, "config/config.yaml: model_kwargs: write '{key: value, ...}'"),
        ({"hf_path": "m", "model_kwargs": "a='x"}, "config/config.yaml: model_kwargs: no closing quotation"),
        ({"hf_path": "m", "model_kwargs": "a=["}, "config/config.yaml: model_kwargs: a value is not valid YAML"),
    ],
)
def test_a_wrong_run_is_told(root: Path, config: dict[str, Any], said: str) -> None:
    (problem,) = problems(load_with, root, **config)
    assert str(problem).startswith(said)


def test_settings_of_the_run_override_those_of_every_model(root: Path) -> None:
    write_model(root, "small", num_gpus=2, batch_size=4, dtype="float16", max_seq_len=100, cpus=3)
    overrides = {"num_gpus": 0, "batch_size": 8, "dtype": "float32", "batch_padding": False, "max_out_len": 5}
    for model in read(root, **overrides).models:
        assert {key: getattr(model.settings, key) for key in overrides} == overrides
    small = read(root, models=["small"], **overrides).models[0].settings
    assert (small.max_seq_len, small.cpus) == (100, 3)


def test_without_overrides_models_keep_their_own_settings(root: Path) -> None:
    write_model(root, "small", num_gpus=2, batch_size=4, dtype="float16", max_seq_len=100)
    settings = read(root, models=["small"]).models[0].settings
    assert (settings.num_gpus, settings.batch_size, settings.dtype, settings.max_seq_len) == (2, 4, "float16", 100)


def test_a_model_without_a_file_stands_instead_of_the_models(root: Path) -> None:
    config = {"revision": "v1", "tokenizer_path": "org/tokenizer", "tokenizer_kwargs": {"use_fast": False}}
    config |= {"adapter": "org/lora", "adapter_revision": "v2"}
    (model,) = read(root, hf_path="org/Model-1.5B", num_gpus=2, **config).models
    assert (model.name, model.file) == ("Model-1.5B", "--config hf_path")
    assert model.settings.model_dump(include=set(config)) == config
    assert (model.settings.path, model.settings.num_gpus) == ("org/Model-1.5B", 2)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/models/my model/", "my-model"), ("./m", "m"), ("../..", "model"), ("org/a@b", "a-b"), ("~/.cache/x.y", "x.y")],
)
def test_a_model_without_a_file_is_named_after_its_path(root: Path, path: str, name: str) -> None:
    assert read(root, hf_path=path).models[0].name == name


@pytest.mark.parametrize(
    "kwargs",
    [
        {"device_map": "auto", "trust_remote_code": True, "layers": 2},
        "device_map='auto' trust_remote_code=True layers=2",  # as OpenCompass spells it
        {"device_map": "auto", "trust_remote_code": "true", "layers": "2"},  # as Snakemake's --config leaves it
    ],
    ids=["mapping", "OpenCompass", "Snakemake"],
)
def test_model_kwargs_may_be_spelt_in_three_ways(root: Path, kwargs: Any) -> None:
    (model,) = read(root, hf_path="org/m", model_kwargs=kwargs).models
    assert model.settings.trust_remote_code is True
    assert model.settings.model_kwargs == {"device_map": "auto", "layers": 2}


@pytest.mark.parametrize("kwargs", ["trust_remote_code=False", {"trust_remote_code": "false"}, {}, "device_map=auto"])
def test_remote_code_is_not_trusted_unless_it_is_said(root: Path, kwargs: Any) -> None:
    (model,) = read(root, hf_path="org/m", model_kwargs=kwargs).models
    assert model.settings.trust_remote_code is False


def test_a_trust_that_is_neither_true_nor_false_is_refused(root: Path) -> None:
    benchmark, found = load_with(root, hf_path="org/m", model_kwargs={"trust_remote_code": "perhaps"})
    (problem,) = found
    assert (problem.where, problem.key) == ("--config hf_path", "trust_remote_code")
    assert benchmark.models == []


def test_values_inside_kwargs_from_the_command_line_get_their_types(root: Path) -> None:
    given = {"a": {"b": ["1", "x", "0.5", "null", "no: yes: [", "2024-01-01"]}, "use_fast": "false"}
    (model,) = read(root, hf_path="org/m", tokenizer_kwargs=given).models
    expected = {"a": {"b": [1, "x", 0.5, None, "no: yes: [", "2024-01-01"]}, "use_fast": False}
    assert model.settings.tokenizer_kwargs == expected


def test_settings_cannot_be_changed_once_they_are_checked(root: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        read(root).run.limit = 3  # type: ignore[misc]


def test_a_wrong_run_is_told_together_with_what_was_found_before_and_with_its_files_mistakes(root: Path) -> None:
    before = [Problem("a", "", "b")]
    write_yaml(root / "config/models/small.yaml", {"pth": "x"})
    with pytest.raises(UserError) as raised:
        load({"limt": 1, "models": ["small"], "datasets": ["sum"]}, root, "c.yaml", before)
    found = [(problem.where, problem.key) for problem in raised.value.problems]
    assert found[:2] == [("a", ""), ("c.yaml", "limt")]
    assert {("config/models/small.yaml", "pth"), ("c.yaml", "datasets")} < set(found)


@pytest.mark.parametrize("config", [{"models": 3, "datasets": 4}, {"hf_path": [], "datasets": 4}])
def test_a_wrong_key_is_one_problem(root: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UserError) as raised:
        load(config, root, "c.yaml", [])
    assert sorted(problem.key for problem in raised.value.problems) == sorted(config)


@pytest.mark.parametrize("alias", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", ["bfloat16", "torch.bfloat16"])
def test_a_dtype_among_the_kwargs_is_the_models_dtype(root: Path, alias: str, value: str) -> None:
    benchmark, found = load_with(root, hf_path="org/m", model_kwargs={alias: value, "device_map": "auto"})
    assert not found
    settings = benchmark.models[0].settings
    assert (settings.dtype, settings.model_kwargs) == ("bfloat16", {"device_map": "auto"})


def test_two_dtypes_for_one_model_are_refused() -> None:
    values = {"path": "x", "dtype": "float32", "model_kwargs": {"torch_dtype": "bfloat16"}}
    (problem,) = wrong(TransformersConfig, values)
    assert "model_kwargs.torch_dtype is bfloat16, but dtype is float32: keep one" in problem


def test_a_wrong_value_says_what_the_key_means() -> None:
    (problem,) = wrong(RunConfig, {"limit": 0})
    assert "greater than 0 (found 0)" in problem
    assert "fix: limit: How many rows of each data set" in problem


def test_a_wrong_kind_is_told_the_nearest() -> None:
    assert "did you mean 'generate'?" in wrong(DatasetConfig, DATASET | {"kind": "generat"})[0]


def test_what_stands_on_the_command_line_is_not_blamed_on_the_file(root: Path) -> None:
    config = {"models": ["tin"], "datasets": ["sums"], "data_root": "/no/where"}
    problems: list[Problem] = []
    load(config, root, "config/x.yaml", problems, ["models", "data_root"])
    assert [problem.where for problem in problems if problem.key in ("models", "data_root")] == ["--config"] * 2


def test_braces_in_the_results_folder_are_refused() -> None:
    assert "results" in wrong(RunConfig, {"results": "a{b}"})[0]


# Keys that nothing uses


TASK = {"lm_eval": "arc_easy"}
CHOOSING = {"kind": "choice", "prompt": "{{ q }}", "choices": "[1]", "target": "0", "metrics": ["accuracy"]}


@pytest.mark.parametrize(
    ("config", "fix"),
    [
        ({"num_fewshot": 5}, "few_shot: {count: 5"),
        ({"fewshot_seed": 5}, "few_shot: {pick: random"),
        ({"fewshot_as_multiturn": False}, "add apply_chat_template: true"),
        ({"lm_eval_path": "/some/where"}, "lm_eval:NAME"),
        ({"lm_eval_code": True}, "lm_eval:NAME"),
        ({"lm_eval_data": "other.yaml"}, "lm_eval:NAME"),
        ({"data_root": "."}, "source.local"),
    ],
    ids=str,
)
def test_a_key_that_nothing_uses_is_refused(root: Path, config: dict[str, Any], fix: str) -> None:
    (problem,) = load_with(root, **config)[1]
    assert ([problem.key], problem.where) == (list(config), "config/config.yaml")
    assert problem.what.startswith("nothing in this run uses it")
    assert fix in problem.fix


def test_the_command_line_may_choose_data_sets_that_do_not_use_what_the_file_says(root: Path) -> None:
    chosen = {"run": "r", "models": ["*"], "datasets": ["*"], "data_root": ".", "lm_eval_code": True, "num_fewshot": 5}
    found: list[Problem] = []
    load(chosen, root, "config/config.yaml", found, ["datasets", "lm_eval_code"])
    assert [problem.key for problem in found] == ["lm_eval_code", "num_fewshot"]


def test_all_keys_that_nothing_uses_are_told_together(root: Path) -> None:
    config = {"num_fewshot": 5, "fewshot_as_multiturn": True, "lm_eval_code": True}
    assert [problem.key for problem in load_with(root, **config)[1]] == sorted(config)


def test_defaults_may_stand_where_nothing_uses_them(root: Path) -> None:
    defaults = {key: field.get_default() for key, field in RunConfig.model_fields.items()}
    read(root, **defaults | {"models": ["*"], "datasets": ["*"]})


@pytest.mark.parametrize(
    ("keys", "config", "used"),
    [
        ({}, {"num_fewshot": 5}, True),
        ({"num_fewshot": 1}, {"num_fewshot": 5}, True),
        ({"apply_chat_template": False}, {"apply_chat_template": True}, True),
        ({}, {"apply_chat_template": True, "fewshot_as_multiturn": False}, True),
        ({"apply_chat_template": True}, {"fewshot_as_multiturn": False}, True),
        ({}, {"fewshot_as_multiturn": False}, False),
        ({"apply_chat_template": True, "fewshot_as_multiturn": True}, {"fewshot_as_multiturn": False}, True),
        ({"apply_chat_template": True}, {"apply_chat_template": False, "fewshot_as_multiturn": False}, False),
        ({}, {"lm_eval_data": "other.yaml"}, False),
        ({}, {"lm_eval_data": "other.yaml", "data_root": "."}, True),
        ({}, {"max_out_len": 4}, True),
    ],
)
def test_a_key_counts_where_a_task_of_lm_eval_makes_use_of_it(root: Path, keys: Any, config: Any, used: bool) -> None:
    write_yaml(root / "config/datasets/task.yaml", TASK | keys)
    found = load_with(root, datasets=["task"], lm_eval_path=".", **config)[1]
    assert (found == []) is used


def test_a_length_is_for_answers_that_are_generated(root: Path) -> None:
    write_dataset(root, "choosing", **CHOOSING)
    (problem,) = load_with(root, datasets=["choosing"], max_out_len=4)[1]
    assert (problem.key, "generated" in problem.what) == ("max_out_len", True)
    assert load_with(root, datasets=["choosing", "sums"], max_out_len=4)[1] == []


def test_a_folder_has_no_revision(root: Path) -> None:
    (problem,) = load_with(root, hf_path=str(root), revision="main")[1]
    assert (problem.key, "no revisions" in problem.what) == ("revision", True)


def test_models_and_what_stands_in_their_place_are_not_both_given_on_the_command_line(root: Path) -> None:
    config, found = {"models": ["*"], "datasets": ["*"], "hf_path": "org/m"}, list[Problem]()
    load(config, root, "config/config.yaml", found, ["hf_path"])
    assert found == []
    load(config, root, "config/config.yaml", found, ["hf_path", "models"])
    assert [problem.key for problem in found] == ["models"]


@pytest.mark.parametrize(
    ("kind", "key", "fix"),
    [
        (RunConfig, "few_shot", "it belongs in the file of a data set"),
        (RunConfig, "chat_template_kwargs", "it belongs in the file of a model"),
        (RunConfig, "include_path", "here it is lm_eval_path"),
        (RunConfig, "predict_only", "here it is snakemake --until infer"),
        (RunConfig, "description", "the file of a model, config/models/NAME.yaml or the file of a data set"),
        (DatasetConfig, "limit", "it belongs in the run's own"),
        (DatasetConfig, "num_fewshot", "few_shot: {count: 5"),
        (DatasetConfig, "fewshot_seed", "pick: random"),
        (DatasetConfig, "gen_kwargs", "generation: {"),
        (TransformersConfig, "limit", "it belongs in the run's own"),
        (TransformersConfig, "prompt", "it belongs in the file of a data set"),
    ],
)
def test_a_key_of_another_file_is_told_where_it_belongs(kind: Any, key: str, fix: str) -> None:
    found: list[Problem] = []
    checked(kind, {key: "x"}, "f.yaml", found)
    (problem,) = [problem for problem in found if problem.key == key]
    assert fix in problem.fix


def test_a_key_that_only_some_data_sets_use_is_told(root: Path) -> None:
    own = {each.name: each.settings for each in read(root).datasets}
    (told,) = partly_used(RunConfig(num_fewshot=5), own, {}, lambda key: "run.yaml")
    assert (told.where, told.key, "which have no examples" in told.what) == ("run.yaml", "num_fewshot", True)
    assert "few_shot" in told.fix
    (idle,) = partly_used(RunConfig(gen_kwargs={"seed": 1}), {"c": choice_settings()}, {}, str)
    assert (idle.key, idle.fix) == ("gen_kwargs", "")
    assert partly_used(RunConfig(num_fewshot=5), {}, {}, str) == []


def test_tasks_of_lm_eval_that_do_not_use_a_key_are_told() -> None:
    tasks = {
        "text": Reads({"rolling"}, shots=False),
        "choice": Reads({"choice"}, shots=True),
        "both": Reads({"choice", "generate"}, shots=True),
    }

    def told(**run: Any) -> list[tuple[str, str]]:
        found = partly_used(RunConfig(**run), {}, tasks, str)
        return [(problem.key, problem.what.removeprefix("has no effect on ")) for problem in found]

    assert told(num_fewshot=2) == [("num_fewshot", "text, which have no examples")]
    assert told(num_fewshot=0, apply_chat_template=False) == []
    assert told(gen_kwargs={"top_k": 3}) == [("gen_kwargs", "text, choice, whose answers are not generated")]
    assert told(apply_chat_template="auto") == [("apply_chat_template", "text, which read whole texts")]
    assert told(system_instruction="Add.") == [("system_instruction", "text, which read whole texts")]


def test_the_manual_has_every_key_of_a_model() -> None:
    manual = (ROOT / "config/README.md").read_text().partition("## A model")[2].partition("\n## ")[0]
    keys = [key for key, field in TransformersConfig.model_fields.items() if not field.exclude]
    assert not [key for key in keys if f"`{key}`" not in manual]


def test_settings_import_nothing_that_filters_and_metrics_compute_with() -> None:
    heavy = {"torch", "numpy", "scipy", "pandas", "datasets", "evaluate", "transformers", "jinja2", "sacrebleu"}
    code = f"import shardmark.config, sys; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("day", ["2026-02-30", "tomorrow", "20260101T00"])
def test_a_template_date_is_a_day(day: str) -> None:
    (problem,) = wrong(TransformersConfig, {"path": "x", "template_date": day})
    assert "template_date: not a date such as 2026-11-30" in problem


def test_only_another_template_date_is_another_model() -> None:
    usual, same, other = (
        TransformersConfig(path="x", **more).identity()
        for more in ({}, {"template_date": "2024-07-26"}, {"template_date": "2026-11-28"})
    )
    assert usual == same == {key: value for key, value in other.items() if key != "template_date"}
    assert other["template_date"] == "2026-11-28"
