"""Archives of pack and unpack: the same files give the same bytes, and nothing hostile leaves anything behind."""

import hashlib
import io
import multiprocessing
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from projects import problems
from shardmark.config.merge import Merged
from shardmark.errors import UserError
from shardmark.files import pretty_json
from shardmark.processes.sockets import sole_job
from shardmark.records.archive import Manifest, PackedFile
from shardmark.records.base import to_json
from shardmark.store import archive as archives
from shardmark.store.archive import write_archive, zstd
from shardmark.store.hub_cache import hub_cache
from shardmark.tools import packing
from shardmark.tools.packing import Unpacking

CONFIG = {"models": ["m"], "datasets": ["d"]}
COMMIT = "c" * 40


def packed(place: Any, name: str, content: bytes, blob: str = "", **facts: Any) -> PackedFile:
    value = hashlib.sha256(content).hexdigest()
    return PackedFile(**({"place": place, "name": name, "sha256": value, "size": len(content), "blob": blob} | facts))


def manifest(*files: PackedFile, **facts: Any) -> Manifest:
    usual = {"archive": 1, "run": "test", "shardmark": "0", "config": CONFIG, "needs": [], "files": list(files)}
    return Manifest(**(usual | facts))


def git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


WEIGHTS, SETTINGS, ROWS = b"weights " * 1000, b"{}", b'{"a": 1}\n'
SNAPSHOT = f"models--org--m/snapshots/{COMMIT}"
FILES = [
    packed("hub", f"{SNAPSHOT}/config.json", SETTINGS, git(SETTINGS)),
    packed("hub", f"{SNAPSHOT}/model.safetensors", WEIGHTS, hashlib.sha256(WEIGHTS).hexdigest()),
    packed("outside", "data/rows.jsonl", ROWS),
    packed("project", "config/models/m.yaml", b"path: org/m\n"),
    packed("project", "data/copy.json", SETTINGS),
    packed("rows", "0123456789abcdef.jsonl", ROWS),
]
CONTENTS: dict[str, Path | bytes] = {
    hashlib.sha256(content).hexdigest(): content for content in (SETTINGS, WEIGHTS, ROWS, b"path: org/m\n")
}


class Machine:
    """A clone and caches on another machine."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.project = root, root / "clone"
        self.project.mkdir(parents=True)
        monkeypatch.setenv("HF_HOME", str(root / "home"))
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        monkeypatch.chdir(self.project)

    def unpack(self, path: Path, run: Merged | None = None, code: bool = False) -> Any:
        return Unpacking(path, self.project, Path("results"), self.root / "outside", code).unpack(run)

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.root)): p.read_bytes() for p in sorted(self.root.rglob("*")) if p.is_file()}

    def everything(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "machine", monkeypatch)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "test.tar.zst"
    write_archive(path, manifest(*FILES), CONTENTS)
    return path


def test_everything_goes_to_its_place_once(archive: Path, machine: Machine) -> None:
    done = machine.unpack(archive)
    assert (done.new, done.there) == (6, 0)
    blobs = "home/hub/models--org--m/blobs"
    assert machine.files() == {
        "clone/config/models/m.yaml": b"path: org/m\n",
        "clone/data/copy.json": SETTINGS,
        f"home/hub/{SNAPSHOT}/config.json": SETTINGS,
        f"home/hub/{SNAPSHOT}/model.safetensors": WEIGHTS,
        f"{blobs}/{git(SETTINGS)}": SETTINGS,
        f"{blobs}/{hashlib.sha256(WEIGHTS).hexdigest()}": WEIGHTS,
        "home/shardmark/rows/0123456789abcdef.jsonl": ROWS,
        "outside/data/rows.jsonl": ROWS,
    }
    again = machine.unpack(archive)
    assert (again.new, again.there) == (0, 6)


def test_it_is_a_tar_file_that_others_read(archive: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(archive.read_bytes()))) as tar:
        assert tar.getnames()[0] == "manifest.json"
        assert len(tar.getnames()) == 1 + len(CONTENTS)


def test_the_same_files_give_the_same_bytes_also_after_an_interruption(archive: Path, tmp_path: Path) -> None:
    again, steps = tmp_path / "again.tar.zst", []
    files = {key: _file(tmp_path / key, value) for key, value in CONTENTS.items()}

    def interrupt(size: int) -> None:
        steps.append(size)
        if len(steps) % 2 == 0:
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            write_archive(again, manifest(*FILES), files, interrupt)
    write_archive(again, manifest(*FILES), files, interrupt)
    assert again.read_bytes() == archive.read_bytes()
    assert len(steps) == len(CONTENTS) + 3, "what was whole is not read again"
    assert not list(tmp_path.glob(".again*"))


def _file(path: Path, content: Path | bytes) -> Path:
    assert isinstance(content, bytes)
    path.write_bytes(content)
    return path


def test_a_file_that_changes_while_it_is_packed_is_named(tmp_path: Path) -> None:
    file = _file(tmp_path / "weights", WEIGHTS + b"!")
    with pytest.raises(UserError, match="changed while it was packed"):
        write_archive(tmp_path / "x.tar.zst", manifest(*FILES), CONTENTS | {FILES[1].sha256: file})


def tar(*members: tuple[tarfile.TarInfo, bytes], end: bytes = bytes(1024)) -> bytes:
    """A compressed tar file of members as they are."""
    parts = [info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512) for info, content in members]
    return zstd.compress(b"".join(parts) + end)


def member(name: str, content: bytes, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def with_manifest(found: Manifest, *members: tuple[tarfile.TarInfo, bytes], end: bytes = bytes(1024)) -> bytes:
    return tar(member("manifest.json", pretty_json(to_json(found)).encode()), *members, end=end)


EVIL = b"evil"
HASH = hashlib.sha256(EVIL).hexdigest()
GOOD = packed("project", "data/x.json", EVIL)


def lists(name: str, place: Any = "project", **facts: Any) -> bytes:
    """An archive whose manifest sends a file somewhere."""
    return with_manifest(manifest(packed(place, name, EVIL, **facts)), member(HASH, EVIL))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not an archive": (b"hello" * 100, "not an archive of Shardmark"),
    "empty": (b"", "cut off"),
    "no manifest": (tar(member(HASH, EVIL)), "is in the place of manifest.json"),
    "upwards": (lists("config/../../x"), "points outside its folder"),
    "absolute": (lists("/etc/passwd"), "points outside its folder"),
    "backslash": (lists("config\\x.yaml"), "points outside its folder"),
    "line break": (lists("config/a\nb.yaml"), "points outside its folder"),
    "long": (lists("config/" + "x" * 2000), "points outside its folder"),
    "hidden": (lists("config/.git/hooks/x"), "does not belong in a project"),
    "hook": (lists(".git/hooks/post-checkout"), "does not belong in a project"),
    "shadow": (lists("yaml.py"), "does not belong in a project"),
    "rules": (lists("rules/infer.smk"), "does not belong in a project"),
    "scripts": (lists("scripts/infer.py"), "does not belong in a project"),
    "cache": (lists("models--a--b/x", "hub"), "not a file of the Hub's cache"),
    "cache upwards": (lists(f"models--a--b/snapshots/{COMMIT}/../../x", "hub"), "points outside its folder"),
    "rows": (lists("a/b.jsonl", "rows"), "not a file of rows"),
    "results": (lists("scores/x.json", "results"), "not a file of predictions"),
    "wrong blob": (lists(f"{SNAPSHOT}/a", "hub", blob="0" * 64), "would have other contents"),
    "wrong git blob": (lists(f"{SNAPSHOT}/a", "hub", blob="0" * 40), "would have other contents"),
    "link elsewhere": (lists("config/x.yaml", blob=HASH), "cannot be a link"),
    "odd blob": (lists(f"{SNAPSHOT}/a", "hub", blob="../../x"), "has no hash"),
    "negative": (lists("config/x.yaml", size=-1), "has no hash or no size"),
    "bomb by size": (lists("data/x.json", size=1 << 45), "decompression bomb"),
    "symlink": (
        with_manifest(manifest(GOOD), member(HASH, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        "not a regular file",
    ),
    "hard link": (
        with_manifest(manifest(GOOD), member(HASH, b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
        "not a regular file",
    ),
    "device": (with_manifest(manifest(GOOD), member(HASH, b"", type=tarfile.CHRTYPE)), "not a regular file"),
    "pipe": (with_manifest(manifest(GOOD), member(HASH, b"", type=tarfile.FIFOTYPE)), "not a regular file"),
    "folder": (with_manifest(manifest(GOOD), member(HASH, b"", type=tarfile.DIRTYPE)), "not a regular file"),
    "long name": (with_manifest(manifest(GOOD), member("x" * 300, EVIL)), "not a regular file"),
    "another name": (with_manifest(manifest(GOOD), member("../x", EVIL)), "'../x' is in the place of"),
    "another size": (with_manifest(manifest(GOOD), member(HASH, EVIL * 2)), "in its manifest"),
    "another content": (with_manifest(manifest(GOOD), member(HASH, b"good")), "contents that do not match its name"),
    "too few": (with_manifest(manifest(GOOD)), "no member of a tar file"),
    "too many": (with_manifest(manifest(GOOD), member(HASH, EVIL), member("x", b"x")), "it contains more than"),
    "a tail of zeros": (with_manifest(manifest(GOOD), member(HASH, EVIL), end=bytes(1 << 20)), "it contains more than"),
    "twice": (with_manifest(manifest(GOOD, GOOD), member(HASH, EVIL)), "twice"),
    "below a file": (
        with_manifest(manifest(GOOD, packed("project", "data/x.json/y", EVIL)), member(HASH, EVIL)),
        "below the file",
    ),
    "newer": (with_manifest(manifest(GOOD, archive=2), member(HASH, EVIL)), "newer Shardmark"),
    "manifest bomb": (tar(member("manifest.json", bytes(archives.LARGEST_MANIFEST + 1))), "its manifest has"),
    "manifest of nothing": (tar(member("manifest.json", b"[" * 100_000)), "manifest cannot be read"),
    "window": (
        zstd.compress(bytes(1024), options={zstd.CompressionParameter.window_log: 30}),
        "in the place of manifest.json",
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_archive_is_refused_by_name_and_leaves_nothing(how: str, tmp_path: Path, machine: Machine) -> None:
    content, said = HOSTILE[how]
    path = _file(tmp_path / "evil.tar.zst", content)
    before = machine.everything()
    (problem,) = problems(machine.unpack, path)
    assert problem.where == str(path)
    assert said in problem.what
    assert machine.everything() == before


@pytest.mark.parametrize("cut", [10, 200, 500, -1, -20])
def test_an_archive_that_is_cut_off_leaves_nothing(cut: int, archive: Path, machine: Machine) -> None:
    archive.write_bytes(archive.read_bytes()[:cut])
    (problem,) = problems(machine.unpack, archive)
    assert "refused: it is cut off" in problem.what
    assert machine.everything() == ["clone"]


def test_any_changed_byte_is_refused(archive: Path, machine: Machine) -> None:
    content = archive.read_bytes()
    for at in range(0, len(content), 37):
        archive.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        (problem,) = problems(machine.unpack, archive)
        assert "refused: " in problem.what
        assert machine.everything() == ["clone"]


def test_code_is_only_unpacked_where_it_is_allowed(tmp_path: Path, machine: Machine) -> None:
    path = _file(tmp_path / "code.tar.zst", lists("tasks/utils.py"))
    (problem,) = problems(machine.unpack, path)
    assert "code, such as tasks/utils.py" in problem.what
    machine.unpack(path, code=True)
    assert (machine.project / "tasks/utils.py").read_bytes() == EVIL


def test_an_archive_of_another_run_is_refused(archive: Path, machine: Machine) -> None:
    machine.unpack(archive, Merged(CONFIG | {"results": "elsewhere"}, "config/config.yaml"))
    (problem,) = problems(machine.unpack, archive, Merged(CONFIG | {"limit": 5}, "config/config.yaml"))
    assert "packed for another configuration than config/config.yaml: limit" in problem.what


def test_a_file_that_is_another_one_here_is_kept_and_named(archive: Path, machine: Machine) -> None:
    own = machine.project / "config/models/m.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("path: mine\n")
    (problem,) = problems(machine.unpack, archive)
    assert problem.where == str(own)
    assert own.read_text() == "path: mine\n"
    assert not (machine.root / "home").exists()


def test_a_damaged_file_in_the_cache_is_replaced(archive: Path, machine: Machine) -> None:
    machine.unpack(archive)
    blob = machine.root / f"home/hub/models--org--m/blobs/{git(SETTINGS)}"
    blob.write_bytes(b"[]")
    assert machine.unpack(archive).new == 1
    assert blob.read_bytes() == SETTINGS


def test_unpacking_goes_on_after_an_interruption(
    archive: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = packing.os.fsync, iter(range(100))

    def full(handle: int) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(packing.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        machine.unpack(archive)
    staged = [path for path in machine.root.rglob("*") if ".shardmark-unpacking-" in str(path) and path.is_file()]
    assert staged
    written: list[str] = []
    real_open: Callable[..., Any] = open
    monkeypatch.setattr(packing, "open", lambda *a: written.append(str(a[0])) or real_open(*a), raising=False)
    assert machine.unpack(archive).new == 6
    assert len(written) == len(CONTENTS) - 2, "two were whole"
    assert not [path for path in machine.everything() if "unpacking" in path]


def test_a_disk_that_is_too_small_is_said_before(
    archive: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SPARE", 1 << 60)
    found = problems(machine.unpack, archive)
    assert "are to be unpacked" in found[0].what
    assert machine.everything() == ["clone"]


def test_files_that_were_outside_need_a_folder(archive: Path, machine: Machine) -> None:
    unpacking = Unpacking(archive, machine.project, Path("results"), None, False)
    (problem,) = problems(unpacking.unpack, None)
    assert "such as /data/rows.jsonl" in problem.what


def test_without_symbolic_links_the_files_themselves_are_in_the_snapshot(
    archive: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(packing.os, "symlink", refuse)
    assert machine.unpack(archive).new == 6
    found = machine.files()
    assert found[f"home/hub/{SNAPSHOT}/config.json"] == SETTINGS
    assert found[f"home/hub/{SNAPSHOT}/model.safetensors"] == WEIGHTS
    assert not [name for name in found if "/blobs/" in name]
    assert (machine.unpack(archive).new, machine.unpack(archive).there) == (0, 6)


def test_one_process_unpacks_at_a_time(archive: Path, machine: Machine) -> None:
    """Another one would remove what it has staged."""
    other = multiprocessing.get_context("fork").Process(target=machine.unpack, args=[archive])
    with sole_job(hub_cache() / "unpacking"):
        other.start()
        other.join(0.3)
        assert not machine.files()
    other.join(30)
    assert (other.exitcode, machine.unpack(archive).there) == (0, 6)


def test_one_machine_unpacks_into_a_shared_folder_at_a_time(
    archive: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of `sole_job` is known on one machine only."""
    monkeypatch.setattr(packing, "sole_job", lambda path: nullcontext())
    others = [multiprocessing.get_context("fork").Process(target=machine.unpack, args=[archive]) for _ in range(2)]
    with packing._sole_host(machine.project / packing.HOSTS):
        for other in others:
            other.start()
        others[0].join(0.1)
        assert list(machine.files()) == [f"clone/{packing.HOSTS}"]
    for other in others:
        other.join(30)
    assert ([other.exitcode for other in others], machine.unpack(archive).there) == ([0, 0], 6)
    assert not [name for name in machine.files() if "unpacking" in name]
