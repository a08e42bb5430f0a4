"""config/suites/*.yaml: sensible selections of data sets, which a run names as `suite/NAME`."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from shardmark.config.base import validate
from shardmark.config.search_path import own_or_shipped
from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem, nearest
from shardmark.installation import INSTALLATION
from shardmark.settings import Settings

PREFIX = "suite/"
FOLDER = Path("config/suites")


class SuiteConfig(Settings):
    """A selection of data sets. The file's name is its name."""

    description: str = ""
    "One line for `list`."
    datasets: list[str] = Field(min_length=1)
    "Names of files in config/datasets, or globs such as `mmlu_*`; `lm_eval:NAME` is a task of lm-evaluation-harness."


def suite_names(root: Path) -> list[str]:
    """The names of the suites below a project's folder, and of those that Shardmark ships."""
    return sorted({path.stem for folder in (root, Path(INSTALLATION)) for path in (folder / FOLDER).glob("*.yaml")})


def suite_file(name: str, root: Path) -> Path:
    """The file of `suite/NAME`, below the project's folder, or a shipped one."""
    return own_or_shipped(FOLDER / f"{name.removeprefix(PREFIX)}.yaml", root)


def read_suite(name: str, root: Path, problems: list[Problem]) -> SuiteConfig | None:
    """The suite of that name, or None with a problem for each wrong key."""
    file = suite_file(name, root)
    values = read_yaml(root / file, str(file), problems)
    found = None if values is None else validate(SuiteConfig, values, str(file), problems)
    if found and (inner := [each for each in found.datasets if each.startswith(PREFIX)]):
        problems.append(Problem(str(file), "datasets", f"{inner[0]} is a suite itself", "name its data sets"))
        return None
    return found


def without_suites(names: Iterable[str], root: Path, where: str, problems: list[Problem]) -> list[tuple[str, str]]:
    """The data sets that a run's names stand for, with suites expanded, each with the place that names it."""
    found: dict[str, str] = {}
    for name in names:
        if not name.startswith(PREFIX):
            found.setdefault(name, where)
        elif name.removeprefix(PREFIX) not in (known := suite_names(root)):
            shown = [PREFIX + each for each in known]
            problems.append(Problem(where, "datasets", f"no file {suite_file(name, root)}", nearest(name, shown)))
        elif suite := read_suite(name, root, problems):
            for each in suite.datasets:
                found.setdefault(each, str(suite_file(name, root)))
    return list(found.items())
