"""Whether models have a chat template, and which, before their files have been downloaded."""

from contextlib import suppress
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.lock.entries import chat_template, chat_templates, known_template
from shardmark.lock.lock import Lock
from shardmark.plan.gguf import UNREADABLE, gguf_template
from shardmark.printable import one_line
from shardmark.records.model import Folder, GgufFile, HubRepository, ModelRecord

FILES = ["tokenizer_config.json", "chat_template.jinja", "additional_chat_templates/*.jinja"]
"Files that may hold the chat templates of a repository on the Hub."
SAY = "set apply_chat_template to true or false"


def has_template(record: ModelRecord, results: Path, lock: Lock) -> bool:
    """Whether a model has a chat template. Raises UserError if that cannot be determined."""
    known = known_template(record, results)
    if known is not False:
        return bool(known)
    words = record.words
    if isinstance(words, GgufFile):
        return _in_gguf(Path(words.path), record.file)
    if isinstance(words, HubRepository):
        return _on_hub(record, words, lock)
    return False  # unreadable tokenizer files are reported where they are recorded


def lacks_template(record: ModelRecord, results: Path, lock: Lock) -> bool:
    """Whether a model is known to have no chat template. If that cannot be checked now, its first job does."""
    known = known_template(record, results)
    if known is not False or isinstance(record.words, Folder):
        return known is None
    on_hub = isinstance(record.words, HubRepository)
    if on_hub and lock.frozen and "chat_template" not in (lock.get(("models", record.name, "hub")) or {}):
        return False  # a result could not be recorded
    with suppress(UserError):
        return not has_template(record, results, lock)
    return False


def templates_elsewhere(words: GgufFile | HubRepository) -> tuple[Path | None, dict[str, str]]:
    """The folder of a tokenizer's small files, and its chat templates by name; empty if they are not here."""
    if isinstance(words, GgufFile):
        with suppress(*UNREADABLE):
            if text := gguf_template(Path(words.path)):
                return None, {"default": text}
        return None, {}
    with suppress(Exception):  # staging reports the reason if the cache cannot be read
        from huggingface_hub import snapshot_download

        repository, commit = words.identity.repository, words.identity.commit
        folder = Path(snapshot_download(repository, revision=commit, allow_patterns=FILES, local_files_only=True))
        return folder, chat_templates(folder)
    return None, {}


def _on_hub(record: ModelRecord, words: HubRepository, lock: Lock) -> bool:
    """The lock's note for this commit, or else the result from the repository's files, which the lock then stores."""
    key = ("models", record.name, "hub")
    entry = lock.get(key) or {}
    pinned = entry.get("tokenizer", entry) if record.tokenizer else entry
    if pinned.get("commit") == words.identity.commit and "chat_template" in entry:
        return bool(entry["chat_template"])
    from huggingface_hub import snapshot_download

    repository, commit = words.identity.repository, words.identity.commit
    try:
        folder = Path(snapshot_download(repository, revision=commit, allow_patterns=FILES))
        found = chat_template(folder)
    except Exception as error:  # network, disk, permission, or invalid JSON
        what = f"apply_chat_template is auto, but the tokenizer of {repository} cannot be downloaded: {one_line(error)}"
        raise UserError(Problem(record.file, "path", what, f"check the network and HF_ENDPOINT, or {SAY}")) from error
    if isinstance(record.source, HubRepository):
        lock.learn(key, {"chat_template": found})
    return bool(found)


def _in_gguf(path: Path, where: str) -> bool:
    """Whether the header of a GGUF file has a chat template."""
    try:
        return bool(gguf_template(path))
    except UNREADABLE as error:
        what = f"apply_chat_template is auto, but its header cannot be read: {error}"
        raise UserError(Problem(where, "gguf_file", f"{path}: {what}", SAY)) from error
