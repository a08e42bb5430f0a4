"""The order of the library's folders, as docs/architecture.md tells it."""

import ast
import functools
import re
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

from workflow import ROOT

LIBRARY = ROOT / "scripts/shardmark"
MODULES = {
    ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in LIBRARY.rglob("*.py")
}


@functools.cache
def imported(module: Path) -> list[str]:
    """The names that a module imports from the library, anywhere in it, each with its folders."""
    found: list[str] = []
    package = ".".join(module.parent.relative_to(LIBRARY.parent).parts)
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [name for name in names if name.startswith("shardmark.")]
    return found


def test_a_folder_imports_only_from_those_above_it_in_the_table() -> None:
    order = re.findall(r"^\| `scripts/shardmark/(\w+)` \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.M)
    assert sorted(order) == sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
    upward = {
        (folder, other, module.name)
        for number, folder in enumerate(order)
        for module in (LIBRARY / folder).rglob("*.py")
        for other in (name.split(".")[1] for name in imported(module))
        if other in order[number + 1 :]
    }
    assert upward == {("config", "records", "vllm.py")}, "it needs the names of vLLM's two engines, and no more"


def test_no_module_imports_itself_through_others() -> None:
    """Raises CycleError, which names the circle; imports within functions and for type checkers count."""
    graph = {
        module: [name if name in MODULES else name.rpartition(".")[0] for name in imported(path)]
        for module, path in MODULES.items()
    }
    assert {name for names in graph.values() for name in names} <= {*MODULES}
    TopologicalSorter(graph).prepare()
