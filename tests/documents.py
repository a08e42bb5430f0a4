"""The command lines and files that the documents show, and a place to try them.

Commands are in ```sh blocks, files in ```yaml blocks, Python in ```python blocks, and what is neither is in ```text
blocks. Commands also stand between backticks in a sentence.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from workflow import ROOT

DOCUMENTS = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md") if (ROOT / name).exists()]
    + [path for folder in ("config", "docs", "demo", "profiles/*") for path in ROOT.glob(f"{folder}/*.md")]
)
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)    +\S.*")
SPAN = re.compile(r"`([^`|]+)`")
FIRST = r"snakemake|python|make|pip|\.venv/bin/\w+|[A-Z_]+=\S+ make|git|apt-get|dlc|kubectl|scancel|sbatch|hf"
COMMAND = re.compile(rf"({FIRST})\s+\S|--config\s+\w+=|\.ci/")
"What is between backticks and begins like this is a command line; `--config` is one of `snakemake --profile local`."


class Example(NamedTuple):
    """A command line, or a file, and where it stands."""

    document: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line} {' '.join(self.text.split())[:60]}"


def blocks(language: str) -> list[Example]:
    """The blocks of a language in all documents."""
    return [
        Example(name, text[: found.start()].count("\n") + 2, re.sub(rf"(?m)^{found['indent']}", "", found["text"]))
        for name, text in _texts()
        for found in BLOCK.finditer(text)
        if found["language"] == language
    ]


def unnamed() -> list[Example]:
    """Blocks without one of the three languages, and those that are only indented."""
    known = {"sh", "yaml", "text", "python"}  # tests/unit/test_api.py runs the last
    return [
        Example(name, text[: found.start()].count("\n") + 1, found[0])
        for name, text in _texts()
        for found in [
            *(block for block in BLOCK.finditer(text) if block["language"] not in known),
            *(line for line in INDENTED.finditer(BLOCK.sub("", text)) if not _in_a_list(BLOCK.sub("", text), line)),
        ]
    ]


def _in_a_list(text: str, line: re.Match[str]) -> bool:
    before = [part for part in text[: line.start()].splitlines() if part.strip()]
    return bool(before) and before[-1].startswith((" ", "-", "1"))


def command_lines() -> list[Example]:
    """All command lines, of blocks and of sentences, without comments; each once."""
    found: dict[str, Example] = {}
    for block in blocks("sh"):
        text = block.text.replace("\\\n", " ")
        for number, line in enumerate(text.splitlines()):
            for part in re.sub(r"(^|\s)#.*", "", line).split("&&"):
                if part.strip():
                    found.setdefault(part.strip(), Example(block.document, block.line + number, part.strip()))
    for name, text in _texts():
        prose = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text).replace("```", "")
        for span in SPAN.finditer(prose):
            if COMMAND.match(span[1]):
                place = Example(name, prose[: span.start()].count("\n") + 1, " ".join(span[1].split()))
                found.setdefault(place.text, place)
    return list(found.values())


def _texts() -> Iterator[tuple[str, str]]:
    return ((str(path.relative_to(ROOT)), path.read_text("utf-8")) for path in DOCUMENTS)


SERVER = """
import json, os, runpy, sys
sys.path.insert(0, "scripts")
import huggingface_hub.hf_api, pygments.lexers, requests, smart_open, snakemake.cli, snakemake.report
import shardmark.workflow.snakefile, shardmark.report, shardmark.tools.garbage, shardmark.tools.verify
snakemake.cli.get_argument_parser()  # looks for plugins
for line in sys.stdin:
    words, out = json.loads(line)
    child = os.fork()
    if not child:
        written = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (written, 1), (written, 2)):
            os.dup2(old, new)
        sys.argv = words
        if words[0] == "snakemake":
            snakemake.cli.main()
        else:
            sys.path[0] = "scripts"
            runpy.run_path(words[0], run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"Runs command lines one after the other, each in a process of its own that has imported Snakemake already."


@dataclass
class Runner:
    """A process in a project that runs `snakemake ...` and `scripts/....py ...` without starting Python anew."""

    folder: Path
    process: "subprocess.Popen[str]"
    known: dict[tuple[str, ...], tuple[int, str]] = field(default_factory=dict)
    "What came of each command line."

    @classmethod
    def start(cls, folder: Path, environment: dict[str, str]) -> "Runner":
        """Start it in the folder."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", SERVER]
        return cls(
            folder,
            subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1),
        )

    def run(self, *words: str) -> tuple[int, str]:
        """The exit status and the output, standard error included."""
        out = self.folder / "output.txt"
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([words, str(out)]) + "\n")
        return int(self.process.stdout.readline()), out.read_text("utf-8")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
