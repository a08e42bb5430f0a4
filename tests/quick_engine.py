"""An engine that loads no model, for tests of what happens around it."""

from workflow import Project

ENGINE = '''
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace


class Engine:
    """Answers with a number that the request decides, and takes a while."""

    def __init__(self, record, backend):
        pass

    def answer(self, requests):
        import time

        for key in requests:
            time.sleep(0.05)
            yield [{"id": key, "text": str(int(key[:2], 16)), "tokens": 1, "end": "eos", "cut": 0}]


sys.modules["torch"] = SimpleNamespace(set_num_threads=print, cuda=None, __spec__=ModuleSpec("torch", None))
sys.modules["shardmark.engine.answer"] = SimpleNamespace(Engine=Engine)
backend = SimpleNamespace(on_forward=print)
sys.modules["shardmark.engine.transformers_backend"] = SimpleNamespace(TransformersBackend=lambda *_: backend)
'''
"Stands in for the engine, in workers alone: they start in half a second. Its answers are those to generate requests."


def use_quick_engine(project: Project) -> None:
    """Have the workers of a project answer with it."""
    worker = project.folder / "scripts/worker.py"
    text = worker.read_text()
    assert "\nimport argparse\n" in text
    worker.write_text(text.replace("\nimport argparse\n", f"\nimport argparse\n{ENGINE}\n", 1))
