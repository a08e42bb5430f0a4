"""Publish a finished report where others can see it: in a folder, on a branch of a git remote, or in a bucket.

The report goes into a folder of that place, by default with the run's name, and replaces an earlier publication there.
A marker file identifies a folder as a publication: any other content is never replaced.
"""

from pathlib import Path

from shardmark.errors import Problem, UserError

from .publication import publication


def publish_to(target: str, report: Path, below: str | None = None, remote: str = "origin") -> str:
    """Publish a report, and return a line that says where it is now.

    `target` is a folder, `git:BRANCH` of the `remote` (a name or an address), or an address that fsspec knows, such as
    s3://bucket/prefix. Raises UserError.
    """
    wanted = publication(report, below)
    if target.startswith("git:"):  # each way is imported where it is taken: some have large packages of their own
        from . import git

        return git.publish(wanted, target.removeprefix("git:"), remote, Path.cwd())
    if "://" in target:
        from . import bucket

        if not target.partition("://")[2].strip("/"):
            raise UserError(Problem(target, "", "names no bucket or folder", "for instance s3://bucket/prefix"))
        return bucket.publish(wanted, target.rstrip("/"))
    from . import folder

    return folder.publish(wanted, Path(target).expanduser())
