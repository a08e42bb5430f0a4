"""A backend that answers a prompt with its last words. In config/backends/, this file is all that is needed."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from shardmark.config.model import ModelConfig
from shardmark.engine.backend import Backend
from shardmark.records.prediction import Generated, Prediction


class EchoConfig(ModelConfig):
    """A model that repeats the last words of its prompt."""

    factory: ClassVar[str] = f"{__name__}:Echo"
    protocol: ClassVar[int] = 1

    backend: Literal["echo"] = "echo"
    "What runs the model."
    num_gpus: int = 0
    "It needs none."
    words: PositiveInt = 2
    "How many words it repeats."

    @property
    def kinds(self) -> frozenset[str]:
        """It scores nothing."""
        return frozenset({"generate"})

    @property
    def place(self) -> str:
        """A name for tables."""
        return f"the last {self.words} words"

    def identity(self) -> dict[str, Any]:
        """The number of words changes answers."""
        return {"words": self.words}


class Echo(Backend):
    """Answers one request after the other."""

    def __init__(self, record: Any, staged: Any, beat: Any) -> None:
        self.words = record.settings.words

    def answer(self, requests: Mapping[str, Any]) -> Iterator[list[Prediction]]:
        """The last words of each prompt; it takes its time if the environment says so."""
        for key, request in requests.items():
            time.sleep(float(os.environ.get("ECHO_SECONDS", 0)))
            text = " ".join(request.prompt.split()[-self.words :])
            yield [Generated(id=key, text=text, tokens=self.words, end="stop", cut=0)]


SETTINGS = EchoConfig
