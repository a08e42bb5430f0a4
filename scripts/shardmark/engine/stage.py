"""Bring a model's files to where jobs can load them: download from the Hub, dequantise a GGUF file, or nothing."""

import logging
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from shardmark import layout
from shardmark.engine.transformers.weights import check_staged, check_tensors, found
from shardmark.errors import Problem, UserError
from shardmark.files import file_sha256, pretty_json, write_whole
from shardmark.plan.preflight import ADAPTER
from shardmark.plan.reasoning import faults
from shardmark.records.model import Folder, GgufFile, Location, ModelRecord, Service, Staged
from shardmark.tasks.rows import one_line, unsigned

log = logging.getLogger(__name__)

UNUSED = ["*.gguf", "*.onnx", "*.onnx_data", "*.msgpack", "*.h5", "*.ot", "onnx/*", "original/*", "*.md", "*.png"]
"Files of Hub repositories that transformers does not load."

OLDER = ["*.bin", "*.pt", "*.pth", "*.ckpt"]
CONSOLIDATED = "consolidated*"
AGAIN = [*OLDER, CONSOLIDATED]
"What repositories keep beside a model's safetensors: the same weights in other formats."

CHECKSUMS = layout.CHECKSUMS.name()
"In a folder that was made here: the SHA-256 of each of its other files."

WEIGHTS = ["*.safetensors", *OLDER, "*.index.json"]
"What else is not wanted of a repository that only gives its tokenizer."


def stage_model(record: ModelRecord, weights_folder: Path) -> Staged:
    """The folders that a model's weights, tokenizer and adapter are loaded from, after putting them there.

    `record` is the plan's; `weights_folder` keeps what has to be converted, named by the source's hash. Raises
    UserError for weights that lack tensors, or that do not fit the tokenizer.
    """
    source, tokenizer, where = record.source, record.tokenizer, record.file
    if isinstance(source, Service):
        return Staged(model="", tokenizer="")
    if isinstance(source, GgufFile):
        folder = _dequantised(record, source, weights_folder)
    else:
        older = record.weights.model_kwargs.get("use_safetensors") is False
        folder = _folder(source, where, "path", UNUSED, once=not older)
    beside = _folder(tokenizer, where, "tokenizer_path", UNUSED + WEIGHTS, once=False) if tokenizer else folder
    if (folder / ADAPTER).is_file():  # of a local folder, planning has said so
        what = f"{source.path} holds an adapter, which transformers would load where peft is installed, else not"
        raise UserError(Problem(where, "path", what, "name it as `adapter`, and the model it is for as `path`"))
    adapter = str(_folder(record.adapter, where, "adapter", UNUSED)) if record.adapter else None
    staged = Staged(model=str(folder), tokenizer=str(beside), adapter=adapter)
    check_staged(record, staged)
    if problems := list(faults(record, beside)):
        raise UserError(problems)
    return staged


def _folder(location: Location, where: str, key: str, unused: list[str], once: bool = True) -> Path:
    """The folder of a location, after a download where it is on the Hub; `once`: without the same weights twice."""
    if isinstance(location, Folder):
        return Path(location.path)
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    for name in ("httpx2", "huggingface_hub.file_download"):  # they log addresses; those of big files are signed
        logging.getLogger(name).addFilter(_unsigned)
    repository, commit = location.identity.repository, location.identity.commit
    try:
        again = _weights_again(repository, commit) if once else []
        return Path(snapshot_download(repository, revision=commit, ignore_patterns=unused + again))
    except Exception as error:  # network, disk, permission: whatever it is, the user must know which model
        fix = "check the network, HF_ENDPOINT and HF_TOKEN, then run again: files that are whole are kept"
        if isinstance(error, GatedRepoError):
            fix = f"accept its terms on https://huggingface.co/{repository}, then set HF_TOKEN or run `hf auth login`"
        elif is_offline_mode():
            fix = "run once without HF_HUB_OFFLINE, or set HF_HOME to a cache that has it"
        what = f"cannot download {repository}@{commit}: {one_line(error)}"
        raise UserError(Problem(where, key, what, fix)) from error


def _weights_again(repository: str, commit: str) -> list[str]:
    """What is not wanted of a repository that has safetensors."""
    named = [file for file in _files(repository, commit) if file.endswith(".safetensors")]
    return [] if all(fnmatch(file, CONSOLIDATED) for file in named) else AGAIN


def _files(repository: str, commit: str) -> list[str]:
    """The files of a repository, or else those in the cache; none where a download must tell what is wrong."""
    from huggingface_hub import HfApi, snapshot_download

    with suppress(Exception):
        return list(HfApi().list_repo_files(repository, revision=commit))
    with suppress(Exception):
        any_file = ["config.json"]
        folder = snapshot_download(repository, revision=commit, allow_patterns=any_file, local_files_only=True)
        return os.listdir(folder)
    return []


def _unsigned(record: logging.LogRecord) -> bool:
    """Lets every message pass, without the signatures in its addresses."""
    record.msg, record.args = unsigned(record.getMessage()), None
    return True


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder that was made here, but for CHECKSUMS itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _dequantised(record: ModelRecord, source: GgufFile, weights_folder: Path) -> Path:
    """The GGUF file's weights and tokenizer as a float32 model folder; made once, whole or not at all.

    Raises UserError if the file is not the one whose SHA-256 was planned, or lacks tensors.
    """
    gguf, planned = Path(source.path), source.identity.gguf
    folder = weights_folder / planned[:16]
    if folder.is_dir():
        return folder
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # bars would fill a file
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.info("dequantising %s to %s", gguf, folder)
    options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, **options)
    check_tensors(record, found(model, info))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if file_sha256(gguf) != planned:  # after it was read: what is in memory is then what was planned
        what, fix = "changed since the plan was made", "run again to evaluate what is there now"
        raise UserError(Problem(str(gguf), "", what, fix))
    for attribute in ("hf_quantizer", "is_quantized"):  # they would make save_pretrained refuse plain weights
        if hasattr(model, attribute):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        os.chmod(temporary, 0o755)
        write_whole(temporary / CHECKSUMS, pretty_json(checksums(temporary)))
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes files for their owner only, and results may be shared
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():  # else another model of the same file was quicker
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
