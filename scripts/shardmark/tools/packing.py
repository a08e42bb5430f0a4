"""Pack everything that a run needs into one archive, and unpack it where there is no network."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.filesize import decimal

from shardmark import layout
from shardmark.config.merge import Merged
from shardmark.errors import Problem, UserError
from shardmark.files import file_sha256, sha256
from shardmark.lock.lock import LOCK, Lock
from shardmark.processes.sockets import sole_job
from shardmark.records.archive import Manifest, PackedFile, Place
from shardmark.records.base import to_json
from shardmark.store.archive import (
    FORMAT,
    ArchiveRefused,
    Content,
    Member,
    Reader,
    Step,
    belongs_in_project,
    check_manifest,
    members,
    reading,
    write_archive,
)
from shardmark.store.hub_cache import hub_cache
from shardmark.tools.needed_files import config_elsewhere, needed_files, rows_folder
from shardmark.tools.planned import plan_run, without_store
from shardmark.tools.sharing import version_here

SUFFIX = ".tar.zst"
OF_MACHINES = {"run", "results", "scratch", "store", "store_trust", "data_root", "vllm_python", "frozen", "offline"} | {
    *("max_num_workers", "max_job_cost", "max_shard_cost", "max_shard_size", "progress_seconds", "num_gpus"),
    *("batch_size", "batch_padding", "max_cost"),
}
"Keys of a run that may differ where its archive is unpacked: no answer depends on them."
CODE = {".py", ".pyc", ".pyd", ".so", ".pth", ".sh", ".smk"}
"Suffixes of files that Python or a shell would run."
ROWS = re.compile(rf"{layout.DIGEST}\.jsonl")
HOSTS = ".shardmark-unpacking.lock"
"The file in a project that one of several machines locks while it unpacks there."
SPARE = 1 << 28
"Bytes of a disk that are left free."


def archive_name(run: Merged) -> Path:
    """The default name of a run's archive."""
    return Path(f"{run.config.get('run', 'default')}{SUFFIX}")


class Packed(NamedTuple):
    """An archive that was written."""

    path: Path
    manifest: Manifest


def pack(run: Merged, root: Path, out: Path, predictions: bool = False, step: Step = lambda size: None) -> Packed:
    """Write an archive of everything a run needs; `step` gets the bytes done. Raises UserError for missing files."""
    plan = plan_run(without_store(run), root, local=False, dry=False)
    needed = needed_files(plan, run, root, predictions)
    contents: dict[str, Content] = {}
    files, problems = [], []
    for place, name, content, blob in needed.files:
        inline = isinstance(content, bytes)
        value = hashlib.sha256(content).hexdigest() if inline else plan.files.sha256(content)  # type: ignore[arg-type]
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if len(blob) == 64 and blob != value:
            what, fix = (
                "is damaged: its hash is not the one that the Hub's cache names it by",
                "remove it; download it again",
            )
            problems.append(Problem(str(content), "", what, fix))
        contents[value] = content
        files.append(PackedFile(place=place, name=name, sha256=value, size=size, blob=blob))
    plan.files.save()
    if problems:
        raise UserError(problems)
    manifest = Manifest(
        archive=FORMAT,
        run=plan.benchmark.run.run,
        shardmark=version_here(),
        config=config_elsewhere(run),
        needs=needed.others,
        files=files,
    )
    try:
        check_manifest(manifest, sum(file.size for file in files))
    except ArchiveRefused as error:
        raise UserError(
            Problem(str(out), "", f"could not be unpacked: {error}", "give the file a plain name")
        ) from error
    with sole_job(out):
        write_archive(out, manifest, contents, step)
    return Packed(out, manifest)


class Unpacked(NamedTuple):
    """The results of unpacking an archive's files."""

    manifest: Manifest
    new: int
    there: int
    "How many existed already with the same content."
    kept: int
    "How many predictions existed with other content: these stay."


class Unpacking:
    """The unpacking of one archive to the folders of this machine."""

    def __init__(self, archive: Path, root: Path, results: Path | None, outside: Path | None, code: bool) -> None:
        """The folders for predictions (None: the packed run's) and for files from outside of project and caches.

        `code` says whether files may be Python.
        """
        self._archive, self._root, self._code = archive, root, code
        self._places = {"project": root, "hub": hub_cache(), "rows": rows_folder()}
        self._places |= {"results": results} if results else {}
        self._places |= {"outside": outside} if outside else {}
        self._has_links = True
        self._made: list[Path] = []
        "The folders that were created."

    def unpack(self, run: Merged | None, step: Step = lambda size: None) -> Unpacked:
        """Put every file of the archive in its place, all or none; `run` is the run that it must have been packed for.

        Files that were unpacked before an interruption are not written again. Raises UserError.
        """
        with sole_job(hub_cache() / "unpacking"), _sole_host(self._root / HOSTS):
            return self._unpack(run, step)

    def _unpack(self, run: Merged | None, step: Step) -> Unpacked:
        with reading(self._archive) as archive:
            manifest = archive.manifest()
            _refuse_other_run(manifest, run)
            self._check(manifest)
            self._places.setdefault("results", Path(_results_of(manifest)))
            self._has_links = not any(file.blob for file in manifest.files) or _has_links(self._places["hub"])
            states = {(file.place, file.name): self._state(file) for file in manifest.files}
            missing = [file for file in manifest.files if states[file.place, file.name] == "missing"]
            self._refuse_conflicts(manifest, states)
            self._refuse_full_disk(missing)
            staging = f".shardmark-unpacking-{os.getuid()}-{sha256(to_json(manifest))[:16]}"
            try:
                staged = self._stage(archive, manifest, missing, staging, step)
                archive.end()
                lock, adopted = self._adopted(missing, staged)
            except (ArchiveRefused, UserError):
                self._clean(staging)
                for folder in reversed(self._made):
                    with suppress(OSError):  # somebody else uses it by now
                        folder.rmdir()
                raise
        wanted = [file for file in missing if file not in adopted]
        last = {file.sha256: self._target(file) for file in wanted}
        for file in wanted:
            self._put(file, staged[file.sha256], is_last=last[file.sha256] == self._target(file))
        if lock:
            lock.save()
        self._clean(staging)
        counts = Counter(states.values())
        return Unpacked(manifest, counts["missing"], counts["there"], counts["kept"])

    def _check(self, manifest: Manifest) -> None:
        """Raise ArchiveRefused, or UserError if the user may allow it, for files that do not belong here."""
        for file in manifest.files:
            if file.place == "project" and not belongs_in_project(file.name):
                raise ArchiveRefused(f"{file.name!r} does not belong in a project: only config/ and data do")
            if file.place == "rows" and not ROWS.fullmatch(file.name):
                raise ArchiveRefused(f"{file.name!r} is not a file of rows")
            if file.place == "results" and not any(
                kind.parse(file.name) for kind in (layout.PREDICTIONS, layout.PARTIALS)
            ):
                raise ArchiveRefused(f"{file.name!r} is not a file of predictions")
        outside = [file.name for file in manifest.files if file.place == "outside"]
        if outside and "outside" not in self._places:
            what = f"{len(outside)} files were outside the project where it was packed, such as /{outside[0]}"
            fix = "python scripts/unpack.py ... --outside DIR puts them below DIR (/ for their original places)"
            raise UserError(Problem(str(self._archive), "", what, fix))
        files = [Path(file.name) for file in manifest.files if file.place in ("project", "outside")]
        code = [file for file in files if file.suffix.lower() in CODE]
        if code and not self._code:
            what = f"it contains {len(code)} files of code, such as {code[0]}"
            fix = "python scripts/unpack.py ... --code, if you trust whoever packed it"
            raise UserError(Problem(str(self._archive), "", what, fix))

    def _target(self, file: PackedFile) -> Path:
        """The path for the content of a file; for a link in the Hub's cache, its target."""
        if file.blob and self._has_links:
            return self._places["hub"] / file.name.partition("/")[0] / "blobs" / file.blob
        return self._places[file.place] / file.name

    def _state(self, file: PackedFile) -> str:
        target = self._target(file)
        if not target.is_file():
            return "missing"
        if target.stat().st_size == file.size and file_sha256(target) == file.sha256:
            link = self._places[file.place] / file.name
            return "there" if link.is_file() else "missing"
        if file.place == "results":
            return "kept"
        return "missing" if file.place == "hub" or _is_lock(file) else "other"

    def _refuse_conflicts(self, manifest: Manifest, states: Mapping[tuple[Place, str], str]) -> None:
        others = [file for file in manifest.files if states[file.place, file.name] == "other"]
        what = f"differs from the file in {self._archive}"
        fix = "move it away, or unpack in a separate clone"
        if others:
            raise UserError([Problem(str(self._target(file)), "", what, fix) for file in others])

    def _refuse_full_disk(self, missing: Iterable[PackedFile]) -> None:
        needed: Counter[int] = Counter()
        folders: dict[int, Path] = {}
        for file in missing:
            folder = _existing(self._places[file.place])
            device = os.stat(folder).st_dev
            folders[device] = folder
            needed[device] += file.size
        problems = []
        for device, folder in folders.items():
            free = shutil.disk_usage(folder).free
            if needed[device] + SPARE > free:
                what = f"{decimal(needed[device])} are to be unpacked, but {decimal(free)} are free"
                problems.append(Problem(str(folder), "", what, "free some space, or set HF_HOME to another disk"))
        if problems:
            raise UserError(problems)

    def _stage(
        self, archive: Reader, manifest: Manifest, missing: list[PackedFile], staging: str, step: Step
    ) -> dict[str, Path]:
        """The missing contents, each in a file near the place of the first file that has it."""
        first = {file.sha256: self._places[file.place] / staging / file.sha256 for file in reversed(missing)}
        blobs: dict[str, set[str]] = {}
        for file in manifest.files:
            if len(file.blob) == 40:
                blobs.setdefault(file.sha256, set()).add(file.blob)
        for member in members(manifest):
            path = first.get(member.sha256)
            if path is None or _is_whole(path, member):
                archive.member(member, None, step)
            else:
                self._make(path.parent)
                with open(path.with_suffix(".partial"), "wb") as out:
                    archive.member(member, out, step)
                    out.flush()
                    os.fsync(out.fileno())
                os.replace(path.with_suffix(".partial"), path)
            if member.git and blobs[member.sha256] != {archive.git}:
                raise ArchiveRefused(f"{member.sha256} would have other contents in the Hub's cache")
        return first

    def _make(self, folder: Path) -> None:
        """Make a folder, and note which folders are new."""
        for path in reversed((folder, *folder.parents)):
            if not path.exists():
                path.mkdir(exist_ok=True)
                self._made.append(path)

    def _adopted(self, missing: list[PackedFile], staged: dict[str, Path]) -> tuple[Lock | None, list[PackedFile]]:
        """The existing lock with the entries of the archive's, if there is one. Raises UserError if they disagree."""
        found = [file for file in missing if _is_lock(file)]
        if not found or not self._target(found[0]).is_file():
            return None, []
        lock = Lock(self._root / LOCK)
        if differing := lock.adopt(staged[found[0].sha256]):
            what = f"{', '.join(differing[:5])}: the lock of {self._archive} differs"
            fix = "unpack in a separate clone, or move this lock away"
            raise UserError(Problem(str(LOCK), "", what, fix))
        return lock, found

    def _put(self, file: PackedFile, source: Path, is_last: bool) -> None:
        """Move a content to its place; the last file that has it gets it, the others get copies."""
        target = self._target(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_last and source.exists():
            os.replace(source, target)
        elif source.exists():
            temporary = target.with_name(f".{target.name}.unpacking")
            shutil.copyfile(source, temporary)
            os.replace(temporary, target)
        if file.blob and self._has_links:
            link = self._places[file.place] / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(target, link.parent))

    def _clean(self, staging: str) -> None:
        """Remove contents that were not put in place."""
        for folder in self._places.values():
            shutil.rmtree(folder / staging, ignore_errors=True)


@contextmanager
def _sole_host(path: Path) -> Iterator[None]:
    """A block that one of the machines that share a folder enters at a time, if its file system has locks."""
    try:
        handle = _locked(path)
    except OSError:  # one that has none, or is read-only
        yield
        return
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path) -> int:
    """The handle of a lock file, which its last holder removes. Raises OSError if there can be none."""
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):  # it was removed meanwhile, here or on another machine
                os.close(handle)
                path.unlink(missing_ok=True)
                raise
        os.close(handle)


def _refuse_other_run(manifest: Manifest, run: Merged | None) -> None:
    if run is None:
        return
    keys = (manifest.config.keys() | run.config.keys()) - OF_MACHINES
    missing = object()
    other = sorted(key for key in keys if manifest.config.get(key, missing) != run.config.get(key, missing))
    if other:
        raise ArchiveRefused(f"it was packed for another configuration than {run.where}: {', '.join(other)}")


def _results_of(manifest: Manifest) -> str:
    """The results folder of a packed run; the usual one if it would lead out of the project."""
    found = str(manifest.config.get("results", "results"))
    return "results" if os.path.isabs(found) or ".." in Path(found).parts else found


def _has_links(folder: Path) -> bool:
    """Whether a folder's file system has symbolic links; without, huggingface_hub keeps files in snapshots alone."""
    try:
        with TemporaryDirectory(dir=_existing(folder)) as trial:
            os.symlink("blob", os.path.join(trial, "link"))
    except OSError:
        return not os.access(_existing(folder), os.W_OK)
    return True


def _is_lock(file: PackedFile) -> bool:
    return file.place == "project" and file.name == LOCK.as_posix()


def _is_whole(path: Path, member: Member) -> bool:
    """Whether a content was staged before an interruption."""
    return path.is_file() and path.stat().st_size == member.size and file_sha256(path) == member.sha256


def _existing(folder: Path) -> Path:
    """The folder, or the nearest existing one above it."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
