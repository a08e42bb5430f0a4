"""Steps that start in half a second, for tests of what happens around them: no model, no chart, none of `evaluate`.

Answers are made up, metrics are the real ones, and the report has everything but its charts.
"""

import os

import pytest
from filelock import FileLock

from workflow import SMALL_RUN, Project

ENGINE = '''
import sys
from types import SimpleNamespace

from shardmark.engine.backend import Backend


class Quick(Backend):
    """Answers with numbers that the request decides."""

    def answer(self, requests):
        import time

        from shardmark.records.prediction import Generated, Output, Sampled, Scored

        for key, request in requests.items():
            time.sleep(PAUSE)
            if request.kind == "generate" and request.samples > 1:
                texts = [str(int(key[2 * n : 2 * n + 2], 16)) for n in range(request.samples)]
                yield [Sampled(id=key, samples=[Output(text=text, tokens=1, end="eos", cut=0) for text in texts])]
            elif request.kind == "generate":
                yield [Generated(id=key, text=str(int(key[:2], 16)), tokens=1, end="eos", cut=0)]
            else:
                scores = [-int(key[n : n + 4], 16) / 1000 for n in range(len(request.pairs))]
                told = {"tokens": [1] * len(scores), "greedy": [False] * len(scores), "cut": 0}
                yield [Scored(id=key, logprobs=scores, **told)]


sys.modules["shardmark.engine.transformers.model"] = SimpleNamespace(open_backend=lambda *_: Quick())
'''
"Stands in for the engine, in workers alone. It answers generate and choice requests."

METRICS = """
import sys
from importlib import import_module
from types import SimpleNamespace


class Metric:
    def __init__(self, config_name, **_):
        self.config_name = config_name

    def compute(self, **given):
        return self._compute(**given)


def load(path, config_name, **_):
    return import_module("shardmark.scoring.evaluate_module").ShardmarkMetric(config_name)


sys.modules["evaluate"] = SimpleNamespace(Metric=Metric, MetricInfo=None, load=load)
sys.modules["datasets"] = SimpleNamespace(Value=str, Sequence=list)
"""
"Stands in for `evaluate`, which takes two seconds to import: the metrics are the same."

CHARTS = """
import sys
from types import SimpleNamespace

nothing = lambda board: ""
no_text = lambda *given, **more: ""
sys.modules["vl_convert"] = SimpleNamespace(vegalite_to_svg=no_text, javascript_bundle=no_text)
sys.modules["shardmark.report.heatmap"] = SimpleNamespace(heat_map=nothing)
sys.modules["shardmark.report.intervals"] = SimpleNamespace(interval_panels=nothing, mean_panel=nothing)
"""
"Stands in for the report's charts, which take two seconds to draw."


ALONE = """
import os

os.environ["SHARDMARK_FORKS"] = "off"
"""
"Nothing is to be imported before a stand-in is there."


def use_quick_engine(project: Project, pause: float = 0.05) -> None:
    """Have the commands of a project do without a model, `evaluate` and charts; each answer takes `pause` seconds."""
    _put_in(project, worker=f"PAUSE = {pause}\n{ENGINE}", score=METRICS, report=CHARTS)


def finished_project(factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A copy of a small run that has finished, and its output; pytest's workers make one run together."""
    base = factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small_run"
    output = made.with_suffix(".log")
    with FileLock(made.with_suffix(".lock")):
        if not output.exists():
            project = Project.create(made, **SMALL_RUN)
            use_quick_engine(project, pause=0)
            output.write_text(project.run())
    return Project(made).copy(factory.mktemp("finished") / "project"), output.read_text()


def use_quick_scoring(project: Project) -> None:
    """Have them do without `evaluate` and charts, for tests of what the real engine answers."""
    _put_in(project, score=METRICS, report=CHARTS)


def _put_in(project: Project, **stand_ins: str) -> None:
    for command, stand_in in stand_ins.items():
        script = project.folder / f"scripts/{command}.py"
        text = script.read_text()
        assert "\nimport argparse\n" in text
        script.write_text(text.replace("\nimport argparse\n", f"\nimport argparse\n{stand_in}\n", 1))
    forked = project.folder / "scripts/shardmark/processes/forked.py"
    text = forked.read_text()
    assert "\nimport os\n" in text
    forked.write_text(text.replace("\nimport os\n", ALONE, 1))
