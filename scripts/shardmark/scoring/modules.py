"""Load the `evaluate` modules in metrics/, by path: nothing is looked up on a hub."""

import functools
import os
import sys
from pathlib import Path
from typing import Any

METRICS = Path(__file__).parents[1] / "metrics"


@functools.cache
def load_metric(name: str) -> Any:
    """The `evaluate` module in metrics/{name}.py."""
    return _evaluate().load(str(METRICS / f"{name}.py"), keep_in_memory=True)


def _evaluate() -> Any:
    """`evaluate`, without the transformers pipelines that it imports if it can: 6 s for nothing used here."""
    os.environ["HF_EVALUATE_OFFLINE"] = "1"
    if "evaluate" not in sys.modules:
        loaded = sys.modules.get("transformers")
        sys.modules["transformers"] = None  # type: ignore[assignment]
        try:
            import evaluate
        finally:
            del sys.modules["transformers"]
            if loaded:
                sys.modules["transformers"] = loaded
    import evaluate

    return evaluate
