"""Tasks in lm-eval's format: files, names, prompts, draws, requests. What lm-eval makes of its own is another test."""

import random
from pathlib import Path
from typing import Any

import pytest

from asked import generate
from projects import plan, problems, write_dataset, write_model, write_yaml
from shardmark.config import LmEvalConfig, Named
from shardmark.errors import UserError
from shardmark.records.request import Message
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.data import as_dataset, parts, read_data_map
from shardmark.tasks.lm_eval.documents import Document, documents
from shardmark.tasks.lm_eval.fewshot import RandomSampler
from shardmark.tasks.lm_eval.files import Function, read_config
from shardmark.tasks.lm_eval.index import Group, Task, find, package_version, read_index, tasks_folder
from shardmark.tasks.lm_eval.prompts import apply_template
from shardmark.tasks.lm_eval.requests import request_of
from shardmark.tasks.lm_eval.select import select
from shardmark.tasks.lm_eval.settings import task_settings
from shardmark.tasks.lm_eval.style import Style

CHOICE: dict[str, Any] = {
    "dataset_path": "some/data",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Q: {{q}}\nA:",
    "doc_to_choice": "{{options}}",
    "doc_to_target": "label",
}
ROWS = [{"q": f"q{n}", "options": ["yes", "no"], "label": n % 2} for n in range(12)]


def made(config: dict[str, Any], shots: int | None = None, limit: int | None = None, **splits: Any) -> list[Document]:
    """The documents of a task without code."""
    settings = task_settings(Task("t", {"task": "t"} | config, "t.yaml"), shots)
    rows = {name: as_dataset(found) for name, found in ({"test": ROWS} | splits).items()}
    return list(documents(settings, rows, Code(Path(), False), "t.yaml", limit))


def contexts(found: list[Document]) -> list[str]:
    return [document.arguments[0][0] for document in found]


def test_includes_are_merged_key_by_key_and_the_files_own_keys_win(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("task: base\ndescription: b\nmetadata: {version: 1, x: 2}\ntask_list: [a]\n")
    (tmp_path / "late.yaml").write_text("description: l\n")
    (tmp_path / "t.yaml").write_text("include: [base, late.yaml]\ntask: t\nmetadata: {version: 3}\n")
    assert read_config(tmp_path / "t.yaml") == {"task": "t", "description": "l", "metadata": {"version": 3}}


def test_a_cyclic_include_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: b.yaml\n")
    (tmp_path / "b.yaml").write_text("include: a.yaml\n")
    (problem,) = problems(read_config, tmp_path / "a.yaml")
    assert problem.key == "include"
    assert "a.yaml" in problem.where


def test_a_function_belongs_to_the_file_that_names_it_and_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "utils.py").write_text("raise SystemExit('executed')\n")
    (tmp_path / "shared" / "base").write_text("process_docs: !function utils.clean\n")
    (tmp_path / "t.yaml").write_text("include: shared/base\ntask: t\n")
    function = read_config(tmp_path / "t.yaml")["process_docs"]
    assert function == Function(tmp_path / "shared", "utils.clean")
    assert function.file == tmp_path / "shared" / "utils.py"


def test_code_is_executed_only_where_it_is_allowed_and_what_it_raises_is_told(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("raise SystemExit('executed')\n")
    (tmp_path / "absent.py").write_text("import no_such_package\n")
    (tmp_path / "reworded.py").write_text(
        "try:\n    import no_such_package\nexcept ImportError:\n    raise ImportError('Install it!')\n"
    )
    (tmp_path / "good.py").write_text("def double(x):\n    return 2 * x\n")
    (refused,) = problems(Code(tmp_path, False).load, Function(tmp_path, "utils.f"))
    assert refused.key == "lm_eval_code"
    assert "utils.f" in refused.what
    code = Code(tmp_path, True)
    (broken,) = problems(code.load, Function(tmp_path, "utils.f"))
    assert "SystemExit: executed" in broken.what
    (absent,) = problems(code.load, Function(tmp_path, "absent.f"))
    assert "pip install no_such_package" in absent.fix
    (reworded,) = problems(code.load, Function(tmp_path, "reworded.f"))
    assert "ImportError: Install it!" in reworded.what
    assert "pip install no_such_package" in reworded.fix
    assert code.load(Function(tmp_path, "good.double"))(4) == 8


def folder_of_tasks(root: Path) -> Path:
    for name in ("one", "two"):
        write_yaml(root / f"{name}.yaml", CHOICE | {"task": name, "tag": "both"})
    members = ["one", {"task": "two", "num_fewshot": 3}]
    aggregates = [{"metric": "acc", "weight_by_size": False}]
    write_yaml(
        root / "g.yaml", {"group": "g", "task": members, "aggregate_metric_list": aggregates, "description": "d"}
    )
    write_yaml(root / "outer.yaml", {"group": "outer", "task": ["g", {"group": "inline", "task": ["both"]}]})
    return root


def test_a_name_is_a_task_a_group_a_tag_or_a_glob(tmp_path: Path) -> None:
    index = read_index(folder_of_tasks(tmp_path))
    assert [task.name for task in find(index, "both", "")] == ["one", "two"] == [t.name for t in find(index, "*o*", "")]
    (group,) = find(index, "g", "")
    assert isinstance(group, Group)
    assert [task.name for task in group.tasks()] == ["one", "two"]
    assert [task.config.get("num_fewshot") for task in group.tasks()] == [None, 3]
    assert {task.config["description"] for task in group.tasks()} == {"d"}
    (outer,) = find(index, "outer", "")
    assert isinstance(outer, Group)
    assert [g.name for g in outer.groups()] == ["outer", "g", "outer::inline"]
    (problem,) = problems(find, index, "onee", "config.yaml")
    assert "'one'" in problem.fix


def test_a_kept_index_is_made_anew_when_a_file_comes(tmp_path: Path) -> None:
    root, kept = folder_of_tasks(tmp_path / "tasks"), tmp_path / "kept"
    assert read_index(root, kept) == read_index(root, kept)
    assert len(list(kept.iterdir())) == 1
    write_yaml(root / "three.yaml", CHOICE | {"task": "three"})
    assert "three" in read_index(root, kept).tasks


def test_a_package_is_found_by_its_environment(tmp_path: Path) -> None:
    package = tmp_path / "env/lib/python3.11/site-packages/lm_eval"
    (package / "tasks").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package.parent / "lm_eval-0.4.13.dist-info").mkdir()
    python = tmp_path / "env/bin/python"
    python.parent.mkdir()
    python.write_text("")
    for path in (tmp_path / "env", python, package, package.parent, package / "tasks"):
        assert tasks_folder(path, "") == package / "tasks"
    assert package_version(package / "tasks") == "0.4.13"
    assert problems(tasks_folder, tmp_path / "none", "c.yaml")[0].key == "lm_eval_path"


def test_a_group_with_scores_is_one_data_set_and_another_is_its_members(tmp_path: Path) -> None:
    index = read_index(folder_of_tasks(tmp_path))

    def names(pattern: str) -> list[str]:
        found: list[Any] = []
        made = select(Named(pattern, "c.yaml", LmEvalConfig(lm_eval=pattern)), index, None, found)
        assert not found
        return [dataset.name for dataset in made]

    assert names("g") == ["lm_eval.g"]
    assert names("outer") == ["lm_eval.g", "lm_eval.one", "lm_eval.two"]


def test_what_is_misspelt_or_missing_is_refused_with_lm_evals_own_keys() -> None:
    with pytest.raises(UserError, match=r"doc_to_txt: unknown key\s+fix: did you mean 'doc_to_text'"):
        made(CHOICE | {"doc_to_txt": "x"})
    with pytest.raises(UserError, match="test_split"):
        made({key: value for key, value in CHOICE.items() if key != "test_split"})
    with pytest.raises(UserError, match=r"fewshot_config.*sampler"):
        made(CHOICE | {"fewshot_config": {"sampler": "balanced"}})
    with pytest.raises(UserError, match="t, document 0"):
        made(CHOICE | {"doc_to_text": "{{nothing}}"})


def test_a_run_overrides_the_number_of_examples_unless_the_task_says_none() -> None:
    def shots(own: int | None, run: int | None) -> int | None:
        return task_settings(Task("t", {"task": "t", "num_fewshot": own} | CHOICE, ""), run).num_fewshot

    assert [shots(None, None), shots(None, 5), shots(3, None), shots(3, 5), shots(0, 5), shots(3, 0)] == [
        0,
        5,
        3,
        5,
        0,
        0,
    ]


def test_examples_come_from_one_stream_of_random_numbers() -> None:
    shots = [{"q": f"s{n}", "options": ["yes", "no"], "label": 0} for n in range(20)]
    found = contexts(made(CHOICE | {"fewshot_split": "train"}, 2, train=shots))
    stream = random.Random(1234)
    for context, row in zip(found, ROWS, strict=True):
        drawn = [shots[n] for n in stream.sample(range(20), 2)]
        examples = "".join(f"Q: {shot['q']}\nA: yes\n\n" for shot in drawn)
        assert context == f"{examples}Q: {row['q']}\nA:"
    assert contexts(made(CHOICE | {"fewshot_split": "train"}, 2, 5, train=shots)) == found[:5]


def test_a_document_is_no_example_of_its_own() -> None:
    for document in made(CHOICE | {"fewshot_split": "test"}, 3):
        assert document.arguments[0][0].count(f"Q: {document.doc['q']}\n") == 1


def test_first_n_gives_all_the_same_examples() -> None:
    config = CHOICE | {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
    found = made(config, 2, dev=ROWS[:5])
    assert all(context.startswith("Q: q0\nA: yes\n\nQ: q1\nA: no\n\nQ: ") for context in contexts(found))
    assert {document.head for document in found} == {len("Q: q0\nA: yes\n\nQ: q1\nA: no\n\n")}


def test_contexts_vary_where_the_text_is_a_number() -> None:
    config = CHOICE | {"doc_to_text": "label", "doc_to_choice": "{{[q ~ ' a', q ~ ' b']}}", "doc_to_target": "end"}
    rows = [row | {"end": "the end"} for row in ROWS]
    (first, *_) = made(config, test=rows)
    assert first.arguments == [("q0 a", " the end"), ("q0 b", " the end")]
    assert first.gold == 0


@pytest.mark.parametrize("kind", ["generate_until", "loglikelihood"])
def test_choices_for_questions_are_refused_where_nothing_is_chosen(kind: str) -> None:
    """Else only the first of them would be asked."""
    (problem,) = problems(made, CHOICE | {"output_type": kind, "doc_to_text": "label"})
    assert "t, document 0" in problem.where + problem.key
    assert "doc_to_text" in problem.what


@pytest.mark.parametrize("target", ["2", "no", "[0]"])
def test_the_answer_to_a_text_with_choices_is_one_of_them(target: str) -> None:
    """Else scoring would fail, after everything was answered."""
    (problem,) = problems(made, CHOICE | {"output_type": "generate_until", "doc_to_target": target})
    assert "not the number of one of 2 choices" in problem.what


def test_a_prefix_is_joined_with_one_space() -> None:
    config = CHOICE | {"gen_prefix": "So", "fewshot_split": "test", "fewshot_config": {"sampler": "first_n"}}
    (first, *_) = contexts(made(config, 1))
    assert first == "Q: q1\nA: So no\n\nQ: q0\nA: So"


def test_generation_settings_are_read_as_lm_eval_reads_them() -> None:
    config = {key: value for key, value in CHOICE.items() if key not in ("output_type", "doc_to_choice")}

    def request(**given: Any) -> Any:
        settings = task_settings(Task("t", {"task": "t", "generation_kwargs": given or None} | config, ""))
        return request_of(settings, [("p", settings.generation)])

    assert request() == generate("p", 256, ["\n\n"])
    assert request(until="x", max_gen_toks=8) == generate("p", 8, ["x"])
    assert request(do_sample=False, temperature=0.7) == request()
    assert request(do_sample=True, temperature="0.5", top_p=0.9).temperature == 0.5
    with pytest.raises(ValueError, match="num_beams"):
        request(num_beams=4)
    for wrong in ({"temperature": -0.5}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"temperature": float("inf")}):
        with pytest.raises(ValueError, match="nothing can be sampled"):
            request(**{"do_sample": True, "temperature": 0.5, **wrong})
    with pytest.raises(ValueError, match="0 new tokens"):
        request(max_gen_toks=0)


def chats(style: Style, **config: Any) -> list[Any]:
    config = (
        CHOICE | {"fewshot_split": "train", "description": "Say.", "fewshot_config": {"sampler": "first_n"}} | config
    )
    settings = task_settings(Task("t", {"task": "t"} | config, "t.yaml"), 1)
    rows = {"test": as_dataset(ROWS[1:]), "train": as_dataset(ROWS)}
    (found,) = documents(settings, rows, Code(Path(), False), "t.yaml", 1, style)
    return list(found.arguments)


@pytest.mark.parametrize("doc", [None, {"q": 1}])
def test_more_examples_than_there_are_is_told_in_numbers(doc: Any) -> None:
    pool = [{"q": number} for number in range(3)]
    with pytest.raises(ValueError, match=r"4 examples are needed \(num_fewshot\), but there are [23]"):
        RandomSampler(pool, 1).draw(4, doc)
    assert len(RandomSampler(pool, 1).draw(2, doc)) == 2


def test_what_only_drawing_uses_is_refused_where_a_task_draws_nothing() -> None:
    own: dict[str, Any] = {"temperature": 0.5, "do_sample": False}
    config = {"task": "t", "dataset_path": "d", "test_split": "test", "doc_to_text": "q", "doc_to_target": "a"}
    task = Task("t", config | {"generation_kwargs": own}, "t.yaml")
    (problem,) = problems(task_settings, task, None, {"top_p": 0.9})
    assert problem.key == "gen_kwargs.top_p"
    drawn = task_settings(task, None, {"top_p": 0.9, "do_sample": True, "temperature": 1.0})
    assert drawn.generation["top_p"] == 0.9


def test_a_chat_has_examples_as_turns_or_before_the_question() -> None:
    said = [("system", "Be fair.\n\nSay."), ("user", "Q: q0\nA:"), ("assistant", "yes"), ("user", "Q: q1\nA:")]
    asked = chats(Style(True, True, "Be fair."))
    assert [[(message.role, message.content) for message in context] for context, _ in asked] == [said, said]
    assert [choice for _, choice in asked] == ["yes", "no"]
    one = [("system", "Say."), ("user", "Q: q0\nA: yes\n\nQ: q1\nA:")]
    assert [(message.role, message.content) for message in chats(Style(True, False))[0][0]] == one


def test_an_answer_that_is_begun_is_the_assistants_and_the_choice_stands_apart() -> None:
    context, choice = chats(Style(True), gen_prefix="So:")[0]
    assert (context[-1], choice) == (Message(role="assistant", content="So:"), " yes")


def test_templates_stay_in_the_sandbox_and_do_what_lm_evals_do() -> None:
    assert apply_template("{{ q | regex_replace('a+', 'b') }}\n", {"q": "xaay"}) == "xby\n"
    for escape in (
        "{{ q.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 2 ** 9999 }}",
        "{{ q.upper }}",
    ):
        with pytest.raises(Exception, match=r"unsafe|exponent|not a value"):
            apply_template(escape, {"q": "x"})


def test_rows_come_from_files_by_hub_id_configuration_and_split(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    entry = {"*": {"file": "{split}.jsonl", "where": {"s": "{config}"}, "rename": {"a": "b"}, "drop": ["s"]}}
    write_yaml(path, {"some/data": entry, "other/data": "x/{split}.jsonl"})
    (tmp_path / "test.jsonl").write_text("")
    data = read_data_map(path, tmp_path)
    part = data.part("some/data", "law", "test")
    assert part
    assert part.file == tmp_path / "test.jsonl"
    assert data.part("some/data", "law", "train") is None
    rows = [{"s": "law", "a": 1}, {"s": "art", "a": 2}]
    assert as_dataset(rows, part.local).to_list() == [{"b": 1}]
    settings = task_settings(Task("t", {"task": "t"} | CHOICE | {"dataset_path": "other/data"}, ""))
    (missing,) = problems(parts, settings, data, "c.yaml")
    assert f"other/data has no test split there, which t needs: {tmp_path / 'x/test.jsonl'} is missing" in missing.what
    unknown = task_settings(Task("t", {"task": "t"} | CHOICE | {"dataset_path": "no/data"}, ""))
    (unmapped,) = problems(parts, unknown, data, "c.yaml")
    assert f"name its file in {path} " in unmapped.fix


def test_a_name_that_only_lm_eval_knows_is_suggested(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    write_dataset(tmp_path, "sums")
    write_yaml(tmp_path / "tasks/arc.yaml", CHOICE | {"task": "arc_easy"})
    config = {"datasets": ["arc_easy", "arc_hard", "sums"]}
    easy, hard = problems(plan, tmp_path, lm_eval_path=str(tmp_path / "tasks"), **config)
    assert easy.fix == "write lm_eval:arc_easy, a task of lm-evaluation-harness"
    assert "lm_eval:" not in hard.fix
    unknown, _ = problems(plan, tmp_path, **config)
    assert unknown.fix.endswith("or lm_eval:arc_easy, a task of lm-evaluation-harness, with lm_eval_path")


def test_a_task_reads_files_of_its_own_as_datasets_does(tmp_path: Path) -> None:
    """lm-eval hands them to `datasets`, which takes 007 for 7: its scores come from such rows."""
    (tmp_path / "a.csv").write_text("q,gold\n007,0\nNA,1\n")
    kwargs = {"data_files": {"test": str(tmp_path / "*.csv")}}
    task = CHOICE | {"task": "t", "dataset_path": "csv", "dataset_kwargs": kwargs}
    (part,) = parts(task_settings(Task("t", task, "")), None, "c.yaml")
    assert part.files == [tmp_path / "a.csv"]
    assert part.own
    assert part.own.read("test").to_list() == [{"q": 7.0, "gold": 0}, {"q": None, "gold": 1}]
    missing = task | {"dataset_kwargs": {"data_files": {"test": "gone.csv"}}}
    (problem,) = problems(parts, task_settings(Task("t", missing, "")), None, "c.yaml")
    assert (problem.key, problem.what) == ("dataset_kwargs.data_files.test", "no file gone.csv")


def test_what_a_function_imports_when_it_is_called_must_be_there_before(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def judge(doc, results):\n    import sklearn_absent.metrics\n    return {}\n"
        "def careful(doc, results):\n    try:\n        import absent\n    except ImportError:\n        return {}\n"
    )
    code = Code(tmp_path, True)
    (problem,) = problems(code.check, [Function(tmp_path, "own.judge"), Function(tmp_path, "own.careful")])
    assert problem.what == "own.judge imports sklearn_absent, which is not installed here"
