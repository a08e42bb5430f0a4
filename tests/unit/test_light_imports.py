"""A worker for CPUs leaves out parts of torch and transformers, answers alike, and has them where they are needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from shardmark.engine.worker_client import fork_kind

ROOT = Path(__file__).resolve().parents[2]
ANSWER = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("demo/models/small")
tokens = AutoTokenizer.from_pretrained("demo/models/small")("Three and four is", return_tensors="pt")["input_ids"]
answer = model.generate(tokens, max_new_tokens=8, do_sample=False).tolist(), model(tokens).logits.sum().item().hex()
"""
LIGHT = f"""
import sys
from shardmark.engine.transformers.light_imports import import_light
import_light()
{ANSWER}
assert not {{"torch._dynamo.convert_frame", "torch.distributed.tensor", "scipy"}} & sys.modules.keys()

deferred = sys.modules["torch._dynamo"]
marked, disabled = list(deferred._marked), list(deferred._disabled)
assert disabled and any(hasattr(function, "__dynamo_disable") for function in disabled)
assert {{mark for mark, _ in marked}} == {{"allow_in_graph", "assume_constant_result"}}
import torch._dynamo.config
from torch._dynamo import allow_in_graph, trace_rules
assert torch._dynamo is deferred and torch.compile(torch.sin, backend="eager")(torch.zeros(1)).item() == 0
for mark, function in marked:
    assert id(function) in trace_rules._allowed_callable_ids or function._dynamo_marked_constant, mark
assert not any(hasattr(function, "__dynamo_disable") for function in disabled)
print(answer)
"""


@pytest.mark.slow
def test_light_imports_answer_alike_and_have_the_compiler_when_it_is_used() -> None:
    plain: dict[str, object] = {}
    folder = f"{ROOT}/demo/models/small"
    exec(ANSWER.replace("demo/models/small", folder), plain)
    command = [sys.executable, "-c", LIGHT.replace("demo/models/small", folder)]
    found = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True)
    assert found.stdout.strip() == str(plain["answer"]), found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("part", ["USED = 'torch._dynamo.none'", "MODULES = ('transformers.none',)"])
def test_versions_with_other_parts_are_imported_as_usual(part: str) -> None:
    script = f"""
import sys
from shardmark.engine.transformers import light_imports
light_imports.{part}
light_imports.import_light()
import transformers.modeling_utils, torch._dynamo.convert_frame
assert type(sys.modules["torch._dynamo"]).__name__ == "module" and torch._dynamo is sys.modules["torch._dynamo"]
{ANSWER}
"""
    subprocess.run([sys.executable, "-c", script.replace("demo/", f"{ROOT}/demo/")], cwd=ROOT / "scripts", check=True)


def test_models_with_code_of_their_own_have_all_of_transformers() -> None:
    assert fork_kind("transformers", 0, trust_remote_code=True) == "worker-transformers-own-code"
    assert fork_kind("transformers", 0, trust_remote_code=False) == "worker-transformers"
    assert fork_kind("openai", 0, trust_remote_code=True) == "worker-openai"
    assert fork_kind("transformers", 1, trust_remote_code=True) == ""
