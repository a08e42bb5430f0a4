"""Resolve branches and tags of Hub repositories to commits, with clear messages if the Hub refuses."""

import os
from typing import Literal

from shardmark.errors import Problem, UserError
from shardmark.printable import one_line
from shardmark.records.model import HubFile
from shardmark.store.hub_cache import hub_file

Kind = Literal["model", "dataset"]
NAMES = {
    "model": ("path", "revision", "model", ""),
    "dataset": ("source.hub", "source.revision", "data set", "datasets/"),
}
"The keys of the repository and its revision, the word for it in messages, and its page on the Hub."

TIMEOUT = 30.0
"Seconds of silence after which the Hub counts as unreachable."
PATIENCE = 10.0
"The same for requests that a plan can do without."

_silence: list[Exception] = []
"The error that kept the Hub from answering this process, if any."


def ask_hub(kind: Kind, repository: str, revision: str | None, where: str, cached: bool = True) -> str:
    """The commit of a revision (default: the default branch); `where` names it in messages.

    Without a network it is the commit noted in the Hub's cache, unless `cached` is false. Raises UserError.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        _refuse_silent()
        info = api.repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT)
        if info.gated:  # anyone may look at such a repository, but not anyone may download it
            api.auth_check(repository, repo_type=kind)
        # Ask again in a way that notes the answer in the Hub's cache, where a plan without a network finds it.
        return str(api.resolve_revision(repository, repo_type=kind, revision=revision).resolved)
    except Exception as error:  # the HTTP library below the Hub's client, and so its errors, change with versions
        _note_silence(error)
        refusal = _refusal(kind, repository, revision, error)
        if refusal:
            key, what, fix = refusal
            raise UserError(Problem(where, key, what, fix)) from error
        return _ask_cache(kind, repository, revision, where, error, cached)


def _note_silence(error: Exception) -> None:
    """Remember that the Hub is unreachable, so that a list of models waits for it only once."""
    from httpx2 import TransportError

    if isinstance(error, TransportError):
        _silence[:] = [error]


def _refuse_silent() -> None:
    """Raise the error that kept the Hub from answering this process before."""
    if _silence:
        raise _silence[0]


def ask_files(kind: Kind, repository: str, commit: str) -> dict[str, HubFile]:
    """The files of a commit. Raises any error that keeps the Hub from answering."""
    from huggingface_hub import HfApi, RepoFile

    _refuse_silent()
    api = HfApi()
    info = api.repo_info(repository, repo_type=kind, revision=commit, files_metadata=True, timeout=PATIENCE)
    siblings = getattr(info, "siblings", None) or []
    told = [file for file in siblings if file.size is not None and file.blob_id]
    if told and len(told) == len(siblings):
        return {f.rfilename: hub_file(f.size or 0, f.lfs.sha256 if f.lfs else None, f.blob_id or "") for f in told}
    tree = api.list_repo_tree(repository, repo_type=kind, revision=commit, recursive=True)
    files = [entry for entry in tree if isinstance(entry, RepoFile)]
    return {file.path: hub_file(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id) for file in files}


def file_refusal(repository: str, commit: str, file: str) -> tuple[str, str] | None:
    """The problem and the fix if the Hub refuses a model's file to this user; None if it does not, or is silent."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, file, revision=commit), timeout=PATIENCE)
    except Exception as error:
        refused = _refusal("model", repository, commit, error)
        return refused[1:] if refused else None
    return None


def _refusal(kind: Kind, repository: str, revision: str | None, error: Exception) -> tuple[str, str, str] | None:
    """The key, the problem with it and the fix if the Hub has answered; None if it could not be asked."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    key, revision_key, thing, page = NAMES[kind]
    login = login_fix()
    match error:
        case GatedRepoError():
            fix = f"accept its terms on https://huggingface.co/{page}{repository}, then {login}"
            return key, f"{repository} is gated", fix
        case RevisionNotFoundError():
            what = f"{repository} has no revision {revision or 'main'!r}"
            return revision_key, what, "give one of its branches, tags or full commits"
        case RepositoryNotFoundError() | HFValidationError():
            fix = f"correct the name; if the {thing} is private, {login}"
            if kind == "model":
                fix += "; if you mean a folder, it does not exist"
            return key, f"the Hub has no {thing} {repository!r}", fix
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            fix = "correct HF_TOKEN or run `hf auth login`; public repositories need no token"
            return key, f"the Hub does not accept the token for {repository}", fix
    return None


def login_fix() -> str:
    """How to get access to a repository: tells which token is used now, never the token itself."""
    from huggingface_hub import get_token

    if os.environ.get("HF_TOKEN"):
        return "set HF_TOKEN to a token of an account that may read it (that of HF_TOKEN may not)"
    if get_token():
        return "set HF_TOKEN or run `hf auth login` with an account that may read it (the one logged in may not)"
    return "set HF_TOKEN or run `hf auth login`"


def _ask_cache(kind: Kind, repository: str, revision: str | None, where: str, error: Exception, cached: bool) -> str:
    """The commit that the Hub's cache has noted for a revision, for use without a network."""
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import RevisionResolutionError

    missing, there = (", and it is not in the cache", ", or set HF_HOME to a cache that has it") if cached else ("", "")
    try:
        if cached:
            noted = HfApi().resolve_revision(repository, repo_type=kind, revision=revision, local_files_only=True)
            return str(noted.resolved)
    except RevisionResolutionError:
        pass
    if is_offline_mode():
        what, fix = f"HF_HUB_OFFLINE is set, so {repository} cannot be looked up", "run once without HF_HUB_OFFLINE"
        there += "; `snakemake stage` fetches everything that a run needs"
    else:
        what, fix = f"cannot reach the Hub for {repository} ({one_line(error)})", "check the network and HF_ENDPOINT"
    raise UserError(Problem(where, NAMES[kind][0], what + missing, fix + there)) from error
