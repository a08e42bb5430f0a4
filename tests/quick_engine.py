"""An engine that loads no model, for tests of what happens around it."""

from workflow import Project

ENGINE = '''
import sys
from types import SimpleNamespace

from shardmark.engine.backend import Backend


class Quick(Backend):
    """Answers with numbers that the request decides, and takes a while."""

    def answer(self, requests):
        import time

        from shardmark.records.prediction import Generated, Scored

        for key, request in requests.items():
            time.sleep(0.05)
            if request.kind == "generate":
                yield [Generated(id=key, text=str(int(key[:2], 16)), tokens=1, end="eos", cut=0)]
            else:
                scores = [-int(key[n : n + 4], 16) / 1000 for n in range(len(request.pairs))]
                told = {"tokens": [1] * len(scores), "greedy": [False] * len(scores), "cut": 0}
                yield [Scored(id=key, logprobs=scores, **told)]


sys.modules["shardmark.engine.transformers.model"] = SimpleNamespace(open_backend=lambda *_: Quick())
'''
"Stands in for the engine, in workers alone: they start in half a second. It answers generate and choice requests."


def use_quick_engine(project: Project) -> None:
    """Have the workers of a project answer with it."""
    worker = project.folder / "scripts/worker.py"
    text = worker.read_text()
    assert "\nimport argparse\n" in text
    worker.write_text(text.replace("\nimport argparse\n", f"\nimport argparse\n{ENGINE}\n", 1))
