"""Put a model's files where jobs can load them: download from the Hub, dequantise a GGUF file, or do nothing."""

import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.engine.download import fetch
from shardmark.engine.transformers.weights import check_staged, check_tensors, found
from shardmark.errors import Problem, UserError
from shardmark.files import file_sha256, pretty_json, read_object, write_whole
from shardmark.lock.contents import patterns_for
from shardmark.plan.gguf import unread_tensors
from shardmark.plan.hub_files import Place
from shardmark.plan.model_folders import ADAPTER
from shardmark.plan.models import ORIGINAL, refuse_unread
from shardmark.plan.reasoning import faults
from shardmark.records.model import Folder, GgufFile, Location, ModelRecord, Service, Staged
from shardmark.store.contents import ContentHashes

log = logging.getLogger(__name__)

CHECKSUMS = layout.CHECKSUMS.name()
"The file with checksums in a folder that was made here: the SHA-256 of each of its other files."


def stage_model(record: ModelRecord, weights_folder: Path, hashes: ContentHashes | None = None) -> Staged:
    """The folders from which a model's weights, tokenizer and adapter are loaded, after putting them there.

    `record` is the plan's; `weights_folder` keeps converted weights, named by the source's hash; `hashes` caches the
    comparisons with the Hub's hashes. Raises UserError for weights that lack tensors, that do not fit the tokenizer, or
    that are not those of the commit.
    """
    hashes = hashes or ContentHashes(None)
    source, tokenizer, where = record.source, record.tokenizer, record.file
    if isinstance(source, Service):
        beside = _folder(tokenizer, record, "tokenizer_path", hashes) if tokenizer else None
        if beside and (problems := list(faults(record, beside))):
            raise UserError(problems)
        return Staged(model="", tokenizer=str(beside or ""))
    if isinstance(source, GgufFile):
        folder = _dequantised(record, source, weights_folder)
    else:
        folder = _folder(source, record, "path", hashes)
    beside = _folder(tokenizer, record, "tokenizer_path", hashes) if tokenizer else folder
    if (folder / ADAPTER).is_file():  # for a local folder, planning has already reported it
        what = f"{source.path} holds an adapter, which transformers would load only where peft is installed"
        raise UserError(Problem(where, "path", what, "name it as `adapter`, and its model as `path`"))
    adapter = str(_folder(record.adapter, record, "adapter", hashes)) if record.adapter else None
    staged = Staged(model=str(folder), tokenizer=str(beside), adapter=adapter)
    check_staged(record, staged)
    if problems := list(faults(record, beside)):
        raise UserError(problems)
    return staged


def _folder(location: Location, record: ModelRecord, key: str, hashes: ContentHashes) -> Path:
    """The folder of a location that a key of the model's file gives, after a download if it is on the Hub."""
    if isinstance(location, Folder):
        return Path(location.path)
    return fetch(Place(record, key, location), *patterns_for(record, key), hashes)


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder that was made here, except CHECKSUMS itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _dequantised(record: ModelRecord, source: GgufFile, weights_folder: Path) -> Path:
    """The GGUF file's weights and tokenizer as a float32 model folder; made once, completely or not at all.

    Raises UserError if the file's SHA-256 is not the planned one, or if it lacks tensors.
    """
    gguf, planned = Path(source.path), source.identity.gguf
    settings, words = source.identity.settings or {}, source.identity.tokenizer or {}
    folder = weights_folder / source.identity.folder
    if folder.is_dir():
        return folder
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # progress bars would fill a log file
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.info("dequantising %s to %s", gguf, folder)
    options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, info = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, **options)
        begins = {key: value for key, value in words.items() if key != "ignore_merges"}
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, **begins)
        if "ignore_merges" in words:
            tokenizer.backend_tokenizer.model.ignore_merges = True
    except Exception as error:  # a kind of model or of numbers that transformers does not know, or a damaged file
        what = f"transformers cannot read {gguf}: {error}"
        raise UserError(Problem(record.file, "gguf_file", what, ORIGINAL)) from error
    check_tensors(record, found(model, info))
    if file_sha256(gguf) != planned:  # checked after reading, so that the weights in memory are the planned ones
        what, fix = "changed since the plan was made", "run again to evaluate what is there now"
        raise UserError(Problem(str(gguf), "", what, fix))
    for attribute in ("hf_quantizer", "is_quantized"):  # with them, save_pretrained would refuse plain weights
        if hasattr(model, attribute):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        model.save_pretrained(temporary)
        config = temporary / "config.json"
        write_whole(config, pretty_json(_with_settings(read_object(config), settings)))
        refuse_unread(record, unread_tensors(temporary, gguf))
        tokenizer.save_pretrained(temporary)
        os.chmod(temporary, 0o755)
        write_whole(temporary / CHECKSUMS, pretty_json(checksums(temporary)))
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes files for their owner only, and results may be shared
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another job has made the same folder first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _with_settings(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The contents of config.json with more settings; rotary embeddings are those of layers without a window."""
    rope = config.get("rope_parameters") or {}
    more = settings.get("rope_parameters", {})
    whole = rope | {"full_attention": rope["full_attention"] | more} if "full_attention" in rope else rope | more
    return config | settings | ({"rope_parameters": whole} if whole else {})
