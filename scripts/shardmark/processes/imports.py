"""Imports of large libraries, and other work that makes many objects."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Imports, or loading a tokenizer, during which Python does not search for garbage: they leave next to none.

    It searches again and again, among more and more objects, which is a sixth of the time that importing torch and
    transformers takes, and two fifths of loading Gemma's tokenizer.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
