"""The command `shardmark`, which pip installs: `shardmark run` calls Snakemake, the others are those of scripts/."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from shardmark import __version__
from shardmark.errors import nearest
from shardmark.installation import INSTALLATION, SCRIPTS
from shardmark.tools.commands import COMMANDS

RUN = "run Snakemake on Shardmark's workflow in this folder, with all its options: --profile local, -n, ..."
PROFILE, SNAKEFILE = ("--profile",), ("--snakefile", "-s")


def main() -> None:
    """Run the command that the command line names."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
    elif name in ("-V", "--version"):
        print(f"shardmark {__version__}")
    elif name == "run":
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *snakemake_words(words, Path.cwd())])
    elif name in COMMANDS:
        sys.argv = [f"shardmark {name}", *words]
        script = Path(SCRIPTS, COMMANDS[name][0])  # not by runpy, which would change the command's name for itself
        exec(compile(script.read_bytes(), str(script), "exec"), {"__name__": "__main__", "__file__": str(script)})
    else:
        sys.exit(f"shardmark: there is no command {name!r}: {nearest(name, ['run', *COMMANDS])}")


def usage() -> str:
    """The commands, one per line."""
    lines = [f"  {name:13} {what}" for name, what in [("run", RUN), *((n, what) for n, (_, what) in COMMANDS.items())]]
    return "\n".join(
        [
            "usage: shardmark COMMAND [OPTION]...    (shardmark COMMAND --help lists its options)",
            "",
            *lines,
            "",
            f"The manual is {INSTALLATION}/config/README.md.",
        ]
    )


def snakemake_words(words: list[str], folder: Path) -> list[str]:
    """The arguments for Snakemake: Shardmark's Snakefile, unless another is named, and profiles by their paths."""
    named = any(word in SNAKEFILE or word.startswith("--snakefile=") for word in words)
    snakefile = [] if named else ["--snakefile", os.path.join(INSTALLATION, "Snakefile")]
    return [*snakefile, *_with_profiles(words, folder)]


def _with_profiles(words: list[str], folder: Path) -> Iterator[str]:
    before = ""
    for word in words:
        option, equals, name = word.partition("=")
        if before in PROFILE:
            yield _profile(word, folder)
        elif option in PROFILE and equals:
            yield f"{option}={_profile(name, folder)}"
        else:
            yield word
        before = word


def _profile(name: str, folder: Path) -> str:
    """The path of a profile: in profiles/ of the folder, else where Snakemake looks, else among the shipped ones."""
    own, shipped = folder / "profiles" / name, Path(INSTALLATION, "profiles", name)
    if (own / "config.yaml").is_file():
        return str(own)
    homes = [os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")]
    homes += (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    known = [folder / name, *(Path(home, "snakemake", name) for home in homes)]
    return str(shipped) if shipped.is_dir() and not any(path.exists() for path in known) else name


if __name__ == "__main__":
    main()
