"""The tasks' own Python (`!function`), imported only if the user allows it, because importing executes it."""

import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from shardmark.errors import Problem, UserError, collecting
from shardmark.files import digest, file_sha256
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.index import package_folder, package_version
from shardmark.tasks.lm_eval.wanted import wanted

PACKAGE = "lm_eval"
REMOVED = Path(__file__).parent / "transformers_4"
NAMED_OTHERWISE = {"sklearn": "scikit-learn", "PIL": "pillow", "bs4": "beautifulsoup4", "yaml": "pyyaml"}
"Package names that differ from the names they are imported by."

LIBRARIES = tuple(
    {
        f"{place}{os.sep}"
        for path in (Path(__file__).parents[2], *map(Path, sysconfig.get_paths().values()))
        for place in (path.absolute(), path.resolve())
    }
)
"Folders of modules that belong to no task, even if a task's folder is above them."

ALLOW = "lm_eval_code: true allows it (it runs with your permissions), or choose tasks without Python"


class _Metric:
    """A metric of `evaluate`, looked up on use: a module imported for requests may be used for scoring later."""

    def __init__(self, name: str) -> None:
        self.name = name

    def compute(self, *values: Any, **options: Any) -> Any:
        """Compute the metric; without scoring, nothing: some modules try their metrics when they are imported."""
        return _judging[-1](self.name).compute(*values, **options) if _judging else ({}, {})


_judging: list[Callable[[str], Any]] = []


def _load(name: str, *values: Any, **options: Any) -> Any:
    """Replaces `evaluate.load` for the code of tasks, which would download metrics from the Hub."""
    if _judging:
        _judging[-1](name)  # raises for a missing metric
    return _Metric(name)


@contextmanager
def judging_with(metrics: Callable[[str], Any]) -> Iterator[None]:
    """Let the tasks' code use these metrics of `evaluate`, by name, wherever it loads them."""
    _judging.append(metrics)
    try:
        with _instead_of_evaluate_load():
            yield
    finally:
        _judging.pop()


class Code:
    """Imports functions for a folder of tasks, if this is allowed."""

    def __init__(self, root: Path, allowed: bool, where: str = "") -> None:
        self.root, self.allowed, self.where = root, allowed, where
        self._loaded: dict[Function, Any] = {}

    def begin(self, functions: Iterable[Function]) -> None:
        """Import a task's functions from fresh modules: state left by another task must not change its requests.

        Raises UserError as `load` does.
        """
        wanted = list(functions)
        self._loaded.clear()
        _forget({function.file.parent for function in wanted if function.file}, self.root)
        for function in wanted:
            self.load(function)

    def load(self, function: Function) -> Any:
        """The function or class itself. Raises UserError if it is not allowed, or cannot be imported."""
        if not self.allowed:
            what = f"the task needs its own Python code ({function.name}), which is not imported unless you allow it"
            raise UserError(Problem(self.where, "lm_eval_code", what, ALLOW))
        if function not in self._loaded:
            self._loaded[function] = self._import(function)
        return self._loaded[function]

    def check(self, functions: Iterable[Function]) -> None:
        """Import functions that are needed later. Raises UserError for all that fail, or that will lack a package."""
        problems: list[Problem] = []
        for function in functions:
            with collecting(problems):
                self.load(function)
                absent = [name for name in sorted(wanted([function]).packages) if not _is_installed(name)]
                problems += [self._absent(function, ModuleNotFoundError(name=name)) for name in absent]
        if problems:
            raise UserError(dict.fromkeys(problems))

    def _import(self, function: Function) -> Any:
        module, _, name = function.name.rpartition(".")
        try:
            _find_package(self.root)
            with _instead_of_evaluate_load():
                found = _module(function.file, self.root) if function.file else importlib.import_module(module)
            return getattr(found, name)
        except (KeyboardInterrupt, UserError):
            raise
        except ModuleNotFoundError as error:
            raise UserError(self._absent(function, error)) from error
        except BaseException as error:  # the module's own code may raise anything, even SystemExit
            what = f"{function.name} cannot be imported: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            absent = _absence(error)
            fix = install(absent) if absent else "fix the module, or leave the task out"
            raise UserError(Problem(self._place(function), "", what, fix)) from error

    def _absent(self, function: Function, error: ModuleNotFoundError) -> Problem:
        what = f"{function.name} imports {error.name}, which is not installed here"
        what = what if error.name else f"{function.name} cannot be imported: {error}"
        return Problem(self._place(function), "", what, install(error))

    def _place(self, function: Function) -> str:
        return str(function.file or self.where)


def _is_installed(package: str) -> bool:
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _absence(error: BaseException) -> ModuleNotFoundError | None:
    """The missing package behind an exception: some modules replace the error with a message of their own."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, ModuleNotFoundError):
        behind = behind.__cause__ or behind.__context__
    return behind


def install(error: ModuleNotFoundError) -> str:
    """The fix for a module that a task's code cannot import."""
    package = (error.name or "").partition(".")[0]
    if not package:
        return "install what it names in the environment that plans and scores"
    if package == PACKAGE:
        return "pip install lm-eval, or set lm_eval_path to an environment or package that has it"
    return f"pip install {NAMED_OTHERWISE.get(package, package)} in the environment that plans and scores"


@contextmanager
def _instead_of_evaluate_load() -> Iterator[None]:
    import evaluate

    before, evaluate.load = evaluate.load, _load
    try:
        yield
    finally:
        evaluate.load = before


def code_files(functions: Iterable[Function]) -> dict[str, str]:
    """The Python files beside these functions' modules, by path, with their hashes: all code that may be executed.

    A module may import others beside it, so all files of its folder count.
    """
    folders = {function.file.parent for function in functions if function.file}
    return {str(file): file_sha256(file) for folder in sorted(folders) for file in sorted(folder.rglob("*.py"))}


def _module(file: Path, root: Path) -> ModuleType:
    """The module in a file, under its name in lm-eval."""
    inside = package_folder(root) is not None and file.is_relative_to(root)
    name = ".".join([PACKAGE, "tasks", *file.relative_to(root).with_suffix("").parts]) if inside else _name(file)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


def _forget(folders: Iterable[Path], root: Path) -> None:
    """Remove modules from memory whose files are in these folders, or that are tasks of the lm_eval package."""
    parents = [f"{folder.resolve()}{os.sep}" for folder in folders]
    tasks = f"{PACKAGE}.tasks." if package_folder(root) else None
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name == "__main__":
            continue
        depth, library = ([len(place) for place in places if file.startswith(place)] for places in (parents, LIBRARIES))
        below = depth and max(depth) > max(library, default=0)
        if below or (tasks and name.startswith(tasks) and Path(file).parent != root):
            del sys.modules[name]


def _name(file: Path) -> str:
    return f"_lm_eval_task_{digest(str(file))}_{file.stem}"


class _PackageFinder(MetaPathFinder):
    """Finds the lm_eval package, and nothing else, beside the tasks; its imports come from this environment."""

    def __init__(self, package: Path) -> None:
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the package, if its name is asked for."""
        if name != PACKAGE:
            return None
        folder = str(self.package)
        return importlib.util.spec_from_file_location(
            name, self.package / "__init__.py", submodule_search_locations=[folder]
        )

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """The package's metadata: it looks up its own version."""
        if (context.name or "").replace("-", "_").lower() == PACKAGE:
            for folder in self.package.parent.glob("lm_eval-*.dist-info"):
                yield Distribution.at(folder)


class _RemovedFinder(MetaPathFinder):
    """Finds modules that Transformers 5 no longer has, if no other finder does."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the package of metrics, if its name is asked for."""
        if name != "transformers.data.metrics":
            return None
        return importlib.util.spec_from_file_location(
            name, REMOVED / "__init__.py", submodule_search_locations=[str(REMOVED)]
        )


def _find_package(root: Path) -> None:
    """Let tasks of an lm_eval package import it; tasks in other folders use the one installed here."""
    package = package_folder(root)
    if not any(isinstance(finder, _RemovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(_RemovedFinder())
    if package and not any(isinstance(finder, _PackageFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PackageFinder(package))


def code_identity(functions: Iterable[Function], root: Path) -> dict[str, Any]:
    """Everything that the results of functions depend on: their files and lm_eval's version; empty without any."""
    found = list(functions)
    return {"files": code_files(found), "lm_eval": package_version(root)} if found else {}
