"""Which commit a branch or tag of a Hub repository stands for, and clear words where the Hub does not say."""

from typing import Literal

from shardmark.errors import Problem, UserError
from shardmark.tasks.rows import one_line

Kind = Literal["model", "dataset"]
NAMES = {
    "model": ("path", "revision", "model", ""),
    "dataset": ("source.hub", "source.revision", "data set", "datasets/"),
}
"The keys of the repository and its revision, what to call it, and where its page is on the Hub."

TIMEOUT = 30.0
"Seconds after which a Hub that says nothing counts as unreachable."


def ask_hub(kind: Kind, repository: str, revision: str | None, where: str, cached: bool = True) -> str:
    """The commit of a revision (default: the default branch); `where` names it in messages.

    Without a network it is the commit that the Hub's cache has noted, unless `cached` is false. Raises UserError.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        info = api.repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT)
        if info.gated:  # everyone may look at such a repository, but not everyone may download it
            api.auth_check(repository, repo_type=kind)
        # Asked again in a way that notes the answer in the Hub's cache, where a plan without a network finds it.
        return str(api.resolve_revision(repository, repo_type=kind, revision=revision).resolved)
    except Exception as error:  # the HTTP library below the Hub's client, and so its errors, change with versions
        refusal = _refusal(kind, repository, revision, error)
        if refusal:
            key, what, fix = refusal
            raise UserError(Problem(where, key, what, fix)) from error
        return _ask_cache(kind, repository, revision, where, error, cached)


def _refusal(kind: Kind, repository: str, revision: str | None, error: Exception) -> tuple[str, str, str] | None:
    """The key, what is wrong with it and the fix if the Hub has answered; None if it could not be asked."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    key, revision_key, thing, page = NAMES[kind]
    login = "set HF_TOKEN or run `hf auth login`"
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
                fix += "; if a folder is meant, it does not exist"
            return key, f"the Hub has no {thing} {repository!r}", fix
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            fix = "correct HF_TOKEN or run `hf auth login`; public repositories need no token"
            return key, f"the Hub does not accept the token for {repository}", fix
    return None


def _ask_cache(kind: Kind, repository: str, revision: str | None, where: str, error: Exception, cached: bool) -> str:
    """Without a network, the commit that the Hub's cache has noted for a revision."""
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
        what, fix = f"HF_HUB_OFFLINE is set: {repository} cannot be asked for", "run once without HF_HUB_OFFLINE"
    else:
        what, fix = f"cannot reach the Hub for {repository} ({one_line(error)})", "check the network and HF_ENDPOINT"
    raise UserError(Problem(where, NAMES[kind][0], what + missing, fix + there)) from error
