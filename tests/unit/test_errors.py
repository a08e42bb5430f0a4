"""Mistakes are told with file, key and fix, all together."""

import pytest

from shardmark.errors import Problem, UserError, collecting, nearest


def test_a_problem_names_the_file_the_key_and_the_fix() -> None:
    problem = Problem("config/models/m.yaml", "num_gpus", "must not be negative", "write 0")
    assert str(problem) == "config/models/m.yaml: num_gpus: must not be negative\n    fix: write 0"


def test_a_problem_of_a_whole_file_without_a_known_fix_is_one_line() -> None:
    assert str(Problem("data.jsonl:3", "", "is empty")) == "data.jsonl:3: is empty"


def test_all_problems_are_counted_and_numbered() -> None:
    error = UserError([Problem("a.yaml", "x", "is wrong"), Problem("b.yaml", "y", "is missing", "add it")])
    assert str(error).splitlines() == [
        "2 problems found:",
        "  1. a.yaml: x: is wrong",
        "  2. b.yaml: y: is missing",
        "    fix: add it",
    ]


def test_one_problem_needs_no_list() -> None:
    error = UserError(Problem("a.yaml", "x", "is wrong"))
    assert str(error).startswith("1 problem found:")
    assert error.told("; nothing was run").startswith("1 problem found; nothing was run:"), "only where that is so"
    assert error.problems == [Problem("a.yaml", "x", "is wrong")]


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("batchsize", ["batch_size", "dtype"], "did you mean 'batch_size'?"),
        ("SIQA_gen", ["siqa_gen", "gsm8k_gen"], "did you mean 'siqa_gen'?"),
        ("arc_c_ppl", ["ARC_c_ppl"], "did you mean 'ARC_c_ppl'?"),
        ("grammar", ["grammar_gen", "grammars"], "did you mean 'grammars' or 'grammar_gen'?"),
        ("zzz", ["b", "a"], "known: a, b"),
        ("zzz", [], "there are none"),
    ],
)
def test_the_nearest_name_is_suggested(name: str, known: list[str], said: str) -> None:
    assert nearest(name, known) == said


def test_a_long_list_of_names_is_cut() -> None:
    said = nearest("zzz", (f"name{n:02}" for n in range(31)))
    assert said.startswith("known: name00, name01,")
    assert said.endswith("name29, ...")


def test_problems_are_collected_and_the_rest_goes_on() -> None:
    found = [Problem("a", "", "first")]
    for name in ("b", "c"):
        with collecting(found):
            raise UserError(Problem(name, "", "also"))
    assert [problem.where for problem in found] == ["a", "b", "c"]


def test_only_mistakes_of_the_user_are_collected() -> None:
    found: list[Problem] = []
    with pytest.raises(ZeroDivisionError), collecting(found):
        raise ZeroDivisionError
    assert found == []
