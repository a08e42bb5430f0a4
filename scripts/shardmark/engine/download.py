"""Download the files of a model's commit into the Hub's cache, and check them against the Hub's hashes."""

import logging
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.lock.contents import AGAIN, unwanted
from shardmark.lock.hub import login_fix
from shardmark.plan.hub_files import Place, no_room, told, wrong
from shardmark.printable import one_line, unsigned
from shardmark.records.model import HubFile, HubRepository
from shardmark.store.contents import ContentHashes, Fault, faults
from shardmark.store.hub_cache import named_by_content, snapshot


def fetch(place: Place, unused: list[str], once: bool, hashes: ContentHashes) -> Path:
    """The folder of a commit's files, after a download of those that are not in the cache yet.

    `unused` are patterns of files to leave out; `once` leaves out second copies of the same weights. No request goes to
    the Hub if all files that the plan knows of are there. Raises UserError, by the names of files, for files that are
    missing and cannot be downloaded, and for files with other contents than the Hub says.
    """
    folder, files = place.folder, place.repository.files or {}
    found = faults(folder, files, hashes)
    _refuse_wrong(found, place)
    if not files or found:
        begun = time.time()
        if problem := no_room(sum(fault.size or 0 for fault in found), place.name, place):
            raise UserError(problem)
        folder = _download(place, unused + _weights_again(place.repository, once), found)
        found = faults(folder, files or named_by_content(folder), hashes)
        fresh = [fault.path for fault in found if not fault.is_missing and fault.path.stat().st_mtime >= begun]
        for path in fresh:  # so that it is downloaded again
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        _refuse_wrong(found, place, fresh)
    hashes.save()
    return folder


def _download(place: Place, ignored: list[str], missing: list[Fault]) -> Path:
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    for name in ("httpx2", "huggingface_hub.file_download"):  # they log addresses, which are signed for large files
        logging.getLogger(name).addFilter(_unsigned)
    repository, commit = place.repository.identity.repository, place.repository.identity.commit
    where, key, what = place.model.file, place.key, f"cannot download {repository}@{commit}: "
    offline = "run once without HF_HUB_OFFLINE, or set HF_HOME to a cache that has it"
    if missing and is_offline_mode():
        fix = f"{offline}; `hf download {repository} --revision {commit}` fetches it elsewhere"
        raise UserError(Problem(where, key, f"{what}{told(missing)} not in the cache", fix))
    try:
        return Path(snapshot_download(repository, revision=commit, ignore_patterns=ignored))
    except Exception as error:  # network, disk, permission: whatever it is, the user must know which model
        fix = "check the network, HF_ENDPOINT and HF_TOKEN, then run again: complete files are kept"
        if isinstance(error, GatedRepoError):
            fix = f"accept its terms on https://huggingface.co/{repository}, then {login_fix()}"
        elif is_offline_mode():
            fix = offline
        raise UserError(Problem(where, key, what + one_line(error), fix)) from error


def _refuse_wrong(found: list[Fault], place: Place, removed: Collection[Path] = ()) -> None:
    """Raise UserError naming every file that is there but has the wrong contents."""
    anew = "it has been removed: run again to download it, and check HF_ENDPOINT or the proxy if this happens again"
    if problems := [
        wrong(fault, place, anew if fault.path in removed else "") for fault in found if not fault.is_missing
    ]:
        raise UserError(problems)


def _weights_again(location: HubRepository, once: bool) -> list[str]:
    """Patterns of weights that are not needed from a repository that has safetensors."""
    if not once:
        return []
    files = location.files or _names(location.identity.repository, location.identity.commit)
    return AGAIN if set(AGAIN) <= set(unwanted(files, once=True)) else []


def _names(repository: str, commit: str) -> Mapping[str, HubFile]:
    """The files of a repository, or else those in the cache; none if the download has to report the problem."""
    from huggingface_hub import HfApi

    with suppress(Exception):
        return dict.fromkeys(HfApi().list_repo_files(repository, revision=commit), HubFile())
    with suppress(OSError):
        return dict.fromkeys(os.listdir(snapshot("model", repository, commit)), HubFile())
    return {}


def _unsigned(record: logging.LogRecord) -> bool:
    """Let every message pass, without the signatures in its addresses."""
    record.msg, record.args = unsigned(record.getMessage()), None
    return True
