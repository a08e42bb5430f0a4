"""Hashes of big files are remembered, and never for a file that has changed."""

import os
from pathlib import Path

import pytest

from shardmark.files import file_sha256, read_json, write_whole
from shardmark.plan.hashes import HashCache


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
    text = cache.path.read_text().replace(file_sha256(weights), "remembered")
    cache.path.write_text(text)
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


def test_a_touched_file_is_read_again_and_has_the_same_hash(cache: HashCache, weights: Path) -> None:
    again = known(cache, weights)
    os.utime(weights)
    assert again.sha256(weights) == file_sha256(weights)
    again.save()
    assert HashCache(cache.path).sha256(weights) == file_sha256(weights)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[1]", "5", "null", '"text"', '{"PATH": 5}', '{"PATH": null}', '{"PATH": []}', '{"PATH": ["a"]}'],
)
def test_a_damaged_cache_only_costs_time(cache: HashCache, weights: Path, content: str) -> None:
    write_whole(cache.path, content.replace("PATH", str(weights)))
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
