"""config/benchmark.lock: the Hub commits that names such as `main` stood for when they were first used.

It is meant to be committed: whoever runs the same lock evaluates the same weights and rows, whatever has been pushed
to the Hub since. Delete an entry to take the newest commit.
"""

from pathlib import Path
from typing import Literal

from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json, read_json, write_whole
from shardmark.tasks.rows import one_line

Kind = Literal["model", "dataset"]
NAMES = {
    "model": ("path", "revision", "model", ""),
    "dataset": ("source.hub", "source.revision", "data set", "datasets/"),
}
"The keys of the repository and its revision, what to call it, and where its page is on the Hub."

TIMEOUT = 30.0
"Seconds after which a Hub that says nothing counts as unreachable."


class Lock:
    """The pinned commits, by kind and `repository@revision`. `save` it when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pins: dict[str, dict[str, str]] = {"model": {}, "dataset": {}}
        if path.exists():
            try:
                self._pins |= {kind: dict(pins) for kind, pins in read_json(path).items()}
            except (ValueError, TypeError, AttributeError) as error:
                fix = "restore it from git, or delete it to pin anew"
                raise UserError(Problem(str(path), "", f"not a valid lock: {error}", fix)) from error
        self._changed = False

    def commit(self, kind: Kind, repository: str, revision: str | None, where: str) -> str:
        """The commit a revision (default: the default branch) is pinned to, asking the Hub if it is new.

        Raises UserError if neither the Hub nor its local cache knows it.
        """
        key = f"{repository}@{revision or 'main'}"
        if key not in self._pins[kind]:
            self._pins[kind][key] = _ask_hub(kind, repository, revision, where)
            self._changed = True
        return self._pins[kind][key]

    def save(self) -> None:
        """Write the lock back if something new was pinned."""
        if self._changed:
            write_whole(self.path, pretty_json({kind: dict(sorted(pins.items())) for kind, pins in self._pins.items()}))


def _ask_hub(kind: Kind, repository: str, revision: str | None, where: str) -> str:
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
        return _ask_cache(kind, repository, revision, where, error)


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


def _ask_cache(kind: Kind, repository: str, revision: str | None, where: str, error: Exception) -> str:
    """Without a network, the commit that the Hub's cache has noted for a revision."""
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import RevisionResolutionError

    try:
        cached = HfApi().resolve_revision(repository, repo_type=kind, revision=revision, local_files_only=True)
    except RevisionResolutionError:
        if is_offline_mode():
            what = f"HF_HUB_OFFLINE is set, and {repository} is not in the cache"
            fix = "run once without HF_HUB_OFFLINE, or set HF_HOME to a cache that has it"
        else:
            what = f"cannot reach the Hub for {repository} ({one_line(error)}), and it is not in the cache"
            fix = "check the network and HF_ENDPOINT, or set HF_HOME to a cache that has it"
        raise UserError(Problem(where, NAMES[kind][0], what, fix)) from error
    return str(cached.resolved)
