"""Publish a report as a commit on a branch of a git remote, such as gh-pages.

The commit is made from objects, in a folder that is removed afterwards: no file, branch, index or other reference of
the clone that this is called in changes. It is based on the branch's current commit, and pushed without force. If
somebody else has pushed meanwhile, it is made again on top of theirs.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.printable import redacted

from .publication import MARKER, Publication, foreign

TRIES = 3
"How many times a commit is made, in case others push meanwhile."
NO_JEKYLL = ".nojekyll"
"Makes GitHub Pages serve files unchanged."
SETTINGS = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")
NOBODY = {"GIT_AUTHOR_NAME": "Shardmark", "GIT_AUTHOR_EMAIL": "shardmark@localhost"}
NOBODY |= {"GIT_COMMITTER_NAME": "Shardmark", "GIT_COMMITTER_EMAIL": "shardmark@localhost"}


@dataclass(frozen=True)
class _Repository:
    """The user's clone, whose settings and objects are read, with a separate place for new objects."""

    folder: Path
    environment: dict[str, str]
    remote: str
    "The remote's address."
    branch: str

    def git(self, *words: str, given: bytes = b"") -> str:
        """The output of a git command. Raises UserError if it fails."""
        done = self.tried(*words, given=given)
        if done.returncode:
            what = redacted(done.stderr.decode(errors="replace").strip())
            raise UserError(Problem(self.remote, self.branch, f"git {words[0]}: {what}", "see git's message"))
        return done.stdout.decode()

    def tried(self, *words: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """The result of a git command, even if it fails."""
        command = ["git", *SETTINGS, *words]
        return subprocess.run(command, cwd=self.folder, env=self.environment, input=given, capture_output=True)


def publish(wanted: Publication, branch: str, remote: str, clone: Path) -> str:
    """Push a commit with the report on a branch of a remote, by name or address. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="shardmark-publish-") as temporary:
        repository = _opened(Path(temporary), clone, remote, branch)
        if not branch or repository.tried("check-ref-format", f"refs/heads/{branch}").returncode:
            raise UserError(Problem(f"git:{branch}", "", "is not a branch name", "for instance git:gh-pages"))
        blobs = _blobs(repository, wanted)
        for _ in range(TRIES):
            tip = repository.git("ls-remote", repository.remote, f"refs/heads/{branch}").partition("\t")[0]
            commit = _commit(repository, wanted, blobs, tip)
            place = f"{wanted.below or '.'} on {branch} of {repository.remote}"
            if commit is None:
                return redacted(f"already published: {place}")
            pushed = repository.tried(
                "push", "--porcelain", "--no-verify", repository.remote, f"{commit}:refs/heads/{branch}"
            )
            if not pushed.returncode:
                return redacted(f"published: {place} ({commit[:12]})")
    what = redacted(pushed.stderr.decode(errors="replace").strip() or pushed.stdout.decode(errors="replace").strip())
    fix = "see git's message; the push is never forced, so the branch keeps what it has"
    raise UserError(Problem(remote, branch, f"git push: {what}", fix))


def _opened(temporary: Path, clone: Path, remote: str, branch: str) -> _Repository:
    """The clone that contains a folder, if any; else a repository of its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
    environment = inherited | {"GIT_TERMINAL_PROMPT": os.environ.get("GIT_TERMINAL_PROMPT", "0"), "LC_ALL": "C"}
    plain = _Repository(clone, environment, remote, branch)
    found = plain.tried("rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "objects")
    if found.returncode:
        repository = temporary / "repository"
        repository.mkdir()
        _Repository(repository, environment, remote, branch).git("init", "--quiet", "--bare", ".")
        objects, folder = "", repository
    else:
        top, objects = found.stdout.decode().splitlines()
        folder = Path(top)
    named = plain.tried("remote", "get-url", "--push", remote)
    address = named.stdout.decode().strip() if not named.returncode else remote
    if named.returncode and not ("/" in remote or ":" in remote):
        what = f"there is no git remote {remote!r} here"
        raise UserError(Problem("--remote", "", what, "add it with `git remote add`, or give its address"))
    if named.returncode and (clone / remote).exists():
        address = str((clone / remote).resolve())
    environment |= {"GIT_OBJECT_DIRECTORY": str(temporary / "objects"), "GIT_INDEX_FILE": str(temporary / "index")}
    (temporary / "objects").mkdir()
    if objects:
        environment["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = objects
    opened = _Repository(folder, environment, address, branch)
    unknown = opened.tried("var", "GIT_COMMITTER_IDENT").returncode
    return _Repository(folder, environment | NOBODY, address, branch) if unknown else opened


def _blobs(repository: _Repository, wanted: Publication) -> dict[str, str]:
    """The object of each file, by its path. Files are stored unchanged, whatever the clone's attributes say."""
    names = wanted.files()
    paths = "".join(f"{wanted.report / name}\n" for name in names).encode()
    hashes = repository.git("hash-object", "-w", "--no-filters", "--stdin-paths", given=paths).split()
    found = {wanted.place(name): key for name, key in zip(names, hashes, strict=True)}
    found[wanted.place(MARKER)] = repository.git("hash-object", "-w", "--stdin", given=wanted.marker).strip()
    return found


def _commit(repository: _Repository, wanted: Publication, blobs: dict[str, str], tip: str) -> str | None:
    """A commit on top of the branch's; None if that has the report already. Raises UserError for foreign files."""
    before: list[str] = []
    repository.git("read-tree", "--empty")
    if tip:
        if repository.tried("cat-file", "-e", f"{tip}^{{tree}}").returncode:
            own = ("--no-tags", "--no-write-fetch-head", "--refmap=", "--quiet")
            repository.git("fetch", *own, repository.remote, f"refs/heads/{repository.branch}")
        repository.git("read-tree", tip)
        below = ["--", wanted.below] if wanted.below else []
        before = [name for name in repository.git("ls-files", "-z", *below).split("\0") if name]
    if set(before) - {NO_JEKYLL} and wanted.place(MARKER) not in before:
        raise foreign(f"{wanted.below or '.'} on {repository.branch} of {redacted(repository.remote)}")
    empty = repository.git("hash-object", "-w", "--stdin").strip()
    lines = [f"0 {'0' * len(empty)}\t{name}" for name in before if wanted.replaces(name)]
    lines += [f"100644 {key}\t{place}" for place, key in {**blobs, NO_JEKYLL: empty}.items()]
    repository.git("update-index", "-z", "--index-info", given="".join(f"{line}\0" for line in lines).encode())
    tree = repository.git("write-tree").strip()
    if tip and tree == repository.git("rev-parse", f"{tip}^{{tree}}").strip():
        return None
    parents = ["-p", tip] if tip else []
    message = f"Publish the report {wanted.report.name}"
    return repository.git("commit-tree", tree, *parents, "-m", message).strip()
