"""Hashes of big files are remembered, and never for a file that has changed."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from projects import problems
from shardmark.errors import Problem, UserError
from shardmark.files import canonical_json, file_sha256, read_json, read_sealed, sealed, write_whole
from shardmark.store import hashes
from shardmark.store.hashes import CheckedFiles, HashCache


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old!" * 100)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> HashCache:
    return HashCache(tmp_path / "plans" / "hashes.json")


def known(cache: HashCache, weights: Path) -> HashCache:
    """The cache after a first run, with a hash in it that only the cache can give."""
    cache.sha256(weights)
    cache.save()
    remembered = json.loads(cache.path.read_text().replace(file_sha256(weights), "remembered"))
    write_whole(cache.path, canonical_json(sealed({str(weights): remembered[str(weights)]})))
    return HashCache(cache.path)


def change_in_place(path: Path, content: bytes) -> None:
    """New bytes of the same size and time in the same inode, at a later tick of the kernel's clock."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (before.st_size, before.st_ino, before.st_mtime_ns)


def test_a_hash_is_that_of_the_file(cache: HashCache, weights: Path) -> None:
    assert cache.sha256(weights) == file_sha256(weights)


def test_a_file_that_did_not_change_is_not_read_again(cache: HashCache, weights: Path) -> None:
    assert known(cache, weights).sha256(weights) == "remembered"


def test_files_that_are_gone_are_forgotten(cache: HashCache, weights: Path, tmp_path: Path) -> None:
    cache.sha256(weights)
    cache.save_existing()
    other = tmp_path / "other.bin"
    os.replace(weights, other)
    again = HashCache(cache.path)
    again.sha256(other)
    again.save_existing()
    assert list(read_sealed(cache.path)) == [str(other)]


def test_other_paths_to_the_file_are_known_as_well(
    cache: HashCache, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = known(cache, weights)
    monkeypatch.chdir(weights.parent)
    assert again.sha256(Path("weights.bin")) == "remembered"
    Path("link").symlink_to(weights)
    assert again.sha256(Path("link")) == "remembered"


def test_a_file_rewritten_with_the_same_size_and_time_is_noticed(cache: HashCache, weights: Path) -> None:
    again = known(cache, weights)
    change_in_place(weights, b"new!" * 100)
    assert again.sha256(weights) == file_sha256(weights)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(cache: HashCache, weights: Path) -> None:
    again, before = known(cache, weights), weights.stat()
    write_whole(weights, b"new!" * 100)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again.sha256(weights) == file_sha256(weights)


def test_a_file_that_grew_is_noticed(cache: HashCache, weights: Path) -> None:
    again, before = known(cache, weights), weights.stat()
    with weights.open("ab") as file:
        file.write(b"more")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again.sha256(weights) == file_sha256(weights)


def test_a_change_is_noticed_within_a_run_too(cache: HashCache, weights: Path) -> None:
    cache.sha256(weights)
    change_in_place(weights, b"new!" * 100)
    assert cache.sha256(weights) == file_sha256(weights)


def test_a_file_is_hashed_after_the_tick_in_which_it_changed(
    cache: HashCache, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change in that tick could not be seen by its time."""
    ages = []

    def aged(path: Path) -> str:
        ages.append(time.time_ns() - path.stat().st_ctime_ns)
        return file_sha256(path)

    monkeypatch.setattr(hashes, "file_sha256", aged)
    weights.write_bytes(b"just now")
    cache.sha256(weights)
    assert ages[0] >= 10_000_000


def test_a_touched_file_is_read_again_and_has_the_same_hash(cache: HashCache, weights: Path) -> None:
    again = known(cache, weights)
    os.utime(weights)
    assert again.sha256(weights) == file_sha256(weights)
    again.save()
    assert HashCache(cache.path).sha256(weights) == file_sha256(weights)


def test_a_flipped_digit_in_the_cache_is_not_believed(cache: HashCache, weights: Path) -> None:
    value = cache.sha256(weights)
    cache.save()
    text = cache.path.read_text()
    assert value in text
    cache.path.write_text(text.replace(value, ("1" if value[0] == "0" else "0") + value[1:]))
    assert HashCache(cache.path).sha256(weights) == value


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[1]", "5", "null", '"text"', '{"PATH": 5}', '{"PATH": null}', '{"PATH": []}', '{"PATH": ["a"]}'],
)
def test_a_damaged_cache_only_costs_time(cache: HashCache, weights: Path, content: str) -> None:
    damaged = content.replace("PATH", str(weights))
    with suppress(ValueError, TypeError):
        damaged = canonical_json(sealed(json.loads(damaged)))  # what only another version would have written
    write_whole(cache.path, damaged)
    again = HashCache(cache.path)
    assert again.sha256(weights) == file_sha256(weights)
    again.save()
    assert read_json(cache.path)[str(weights)][0] == file_sha256(weights)


def test_nothing_is_written_when_nothing_was_learnt(cache: HashCache, weights: Path) -> None:
    cache.save()
    assert not cache.path.exists()
    again = known(cache, weights)
    os.utime(cache.path, ns=(1, 1))
    again.sha256(weights)
    again.save()
    assert cache.path.stat().st_mtime_ns == 1


def test_a_missing_file_is_an_error(cache: HashCache, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cache.sha256(tmp_path / "gone")


# Files that change under a plan


def test_a_file_that_changes_while_it_is_hashed_is_refused_and_not_remembered(
    cache: HashCache, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(path: Path) -> str:
        with path.open("ab") as file:
            file.write(b"more")
        return file_sha256(path)

    monkeypatch.setattr(hashes, "file_sha256", growing)
    (problem,) = problems(cache.sha256, weights)
    assert (problem.where, problem.what) == (str(weights), "changed while it was read")
    cache.save()
    assert not cache.path.exists()


def test_a_block_that_reads_what_was_hashed_passes(cache: HashCache, weights: Path) -> None:
    cache.sha256(weights)
    with cache.steady([weights]), cache.steady([]):
        assert weights.read_bytes()


def test_a_block_that_reads_another_file_than_was_hashed_is_refused(cache: HashCache, weights: Path) -> None:
    cache.sha256(weights)
    change_in_place(weights, b"new!" * 100)
    with pytest.raises(UserError, match="changed while it was read"), cache.steady([weights]):
        raise UserError(Problem(str(weights), "", "half a line", "mend it"))  # because it was half written
    weights.unlink()
    with pytest.raises(UserError, match="changed while it was read"), cache.steady([weights]):
        pass


def test_files_that_hold_others_bytes_by_now_are_named(cache: HashCache, weights: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("same", "touched", "copied", "changed", "gone")}
    for path in files.values():
        path.write_bytes(b"data")
        cache.sha256(path)
    assert cache.changed() == []
    os.utime(files["touched"], ns=(1, 1))
    write_whole(files["copied"], b"data")
    change_in_place(files["changed"], b"atad")
    files["gone"].unlink()
    assert cache.changed() == [files["changed"], files["gone"]]


def test_a_hash_that_was_remembered_is_watched_as_well(cache: HashCache, weights: Path) -> None:
    again = known(cache, weights)
    again.sha256(weights)
    change_in_place(weights, b"new!" * 100)
    assert again.changed() == [weights]


# Files that were found whole


class Check:
    """A check that refuses files with "bad" in them, and knows what it has read."""

    def __init__(self) -> None:
        self.read: list[Path] = []

    def __call__(self, path: Path) -> None:
        self.read.append(path)
        if b"bad" in path.read_bytes():
            raise UserError(Problem(str(path), "", "it is bad", "mend it"))


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
def checked(tmp_path: Path) -> CheckedFiles:
    return CheckedFiles(tmp_path / "plans" / "checked.json")


def test_a_file_that_was_found_whole_is_not_read_again(checked: CheckedFiles, weights: Path, check: Check) -> None:
    for _ in range(2):
        checked.check(weights, check)
    checked.save()
    CheckedFiles(checked.path).check(weights, check)
    assert check.read == [weights]


def test_a_file_that_was_refused_is_refused_again(checked: CheckedFiles, weights: Path, check: Check) -> None:
    weights.write_bytes(b"bad")
    for again in (checked, checked, CheckedFiles(checked.path)):
        assert problems(again.check, weights, check)[0].what == "it is bad"
        again.save()
    assert check.read == [weights] * 3
    assert not checked.path.exists()


def test_a_file_that_was_whole_and_changed_is_read_again(checked: CheckedFiles, weights: Path, check: Check) -> None:
    checked.check(weights, check)
    checked.save()
    change_in_place(weights, b"bad!" * 100)
    for again in (checked, CheckedFiles(checked.path)):
        assert problems(again.check, weights, check)
    change_in_place(weights, b"good" * 100)
    checked.check(weights, check)
    checked.check(weights, check)
    assert len(check.read) == 4


def test_only_the_files_that_are_whole_are_remembered(
    checked: CheckedFiles, weights: Path, check: Check, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(b"bad")
    checked.check(weights, check)
    assert problems(checked.check, tmp_path / "other", check)
    checked.save()
    assert list(read_sealed(checked.path)) == [str(weights)]


def test_a_file_that_changes_while_it_is_checked_is_checked_again(
    checked: CheckedFiles, weights: Path, check: Check
) -> None:
    def meanwhile(path: Path) -> None:
        check(path)
        change_in_place(path, b"bad!" * 100)

    checked.check(weights, meanwhile)
    assert problems(checked.check, weights, check)
