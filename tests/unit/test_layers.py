"""The order of the library's folders, as docs/architecture.md tells it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from workflow import ROOT

LIBRARY = ROOT / "scripts/shardmark"


def imported(module: Path) -> Iterator[str]:
    """The folders of the library that a module imports from, anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("shardmark."))


def test_a_folder_imports_only_from_those_above_it_in_the_table() -> None:
    order = re.findall(r"^\| `scripts/shardmark/(\w+)` \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.M)
    assert sorted(order) == sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
    upward = {
        (folder, other, module.name)
        for number, folder in enumerate(order)
        for module in (LIBRARY / folder).rglob("*.py")
        for other in imported(module)
        if other in order[number + 1 :]
    }
    assert upward == {("config", "records", "vllm.py")}, "it needs the names of vLLM's two engines, and no more"
