"""A report where others see it: what lies there already is never lost, and the user's clone never changes."""

import subprocess
from pathlib import Path

import boto3
import fsspec
import pytest

from projects import files_of, problems
from shardmark.export.publish import publish_to
from shardmark.export.publish.publication import MARKER
from shared_stores import s3_server


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which git knows nobody's name."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("EMAIL", "")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return make_report(tmp_path, "1" * 16, {"index.html": "one", "samples/a.html": "a\r\n", ".snakemake_timestamp": ""})


def make_report(root: Path, digest: str, files: dict[str, str]) -> Path:
    folder = root / f"results/reports/demo@{digest}"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    return make_report(tmp_path, "2" * 16, {"index.html": "two", "leaderboard.csv": "=1"})


def git(folder: Path, *words: str) -> str:
    me = ("-c", "user.name=me", "-c", "user.email=me")
    done = subprocess.run(["git", *me, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a bare repository with a commit on main, and a file that is not committed."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "bare.git")
    git(tmp_path, "clone", "--quiet", str(tmp_path / "bare.git"), "clone")
    folder = tmp_path / "clone"
    (folder / "code.py").write_text("1")
    (folder / ".gitattributes").write_text("* text=auto\n")
    git(folder, "checkout", "--quiet", "-B", "main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "code")
    git(folder, "push", "--quiet", "origin", "main")
    (folder / "code.py").write_text("2")
    return folder


def published(clone: Path, branch: str = "gh-pages") -> dict[str, str]:
    bare = clone.parent / "bare.git"
    names = filter(None, git(bare, "ls-tree", "-r", "-z", "--name-only", branch).split("\0"))
    return {name: content(bare, f"{branch}:{name}") for name in names}


def content(bare: Path, file: str) -> str:
    return subprocess.run(["git", "show", file], cwd=bare, capture_output=True, check=True).stdout.decode()


def test_a_folder_gets_the_report_and_later_the_newer_one(report: Path, newer: Path, tmp_path: Path) -> None:
    publish_to(str(tmp_path / "web"), report)
    assert sorted(files_of(tmp_path / "web")) == [f"demo/{MARKER}", "demo/index.html", "demo/samples/a.html"]
    publish_to(str(tmp_path / "web"), newer)
    assert sorted(files_of(tmp_path / "web")) == [f"demo/{MARKER}", "demo/index.html", "demo/leaderboard.csv"]


def test_the_link_of_a_run_publishes_its_newest_report(report: Path, tmp_path: Path) -> None:
    (report.parent / "demo").symlink_to(report.name)
    assert publish_to(str(tmp_path / "web"), report.parent / "demo") == f"published: {tmp_path}/web/demo/index.html"


def test_other_files_in_a_folder_are_not_replaced(report: Path, tmp_path: Path) -> None:
    (tmp_path / "web/demo").mkdir(parents=True)
    (tmp_path / "web/demo/index.html").write_text("mine")
    (problem,) = problems(publish_to, str(tmp_path / "web"), report)
    assert "not a published report" in problem.what
    assert (tmp_path / "web/demo/index.html").read_text() == "mine"


def test_a_link_to_a_published_report_stays(report: Path, newer: Path, tmp_path: Path) -> None:
    publish_to(str(tmp_path / "disk"), report)
    (tmp_path / "web").mkdir()
    (tmp_path / "web/demo").symlink_to(tmp_path / "disk/demo")
    publish_to(str(tmp_path / "web"), newer)
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["demo"]
    assert (tmp_path / "disk/demo/index.html").read_text() == "two"


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("/dev/null/x", "Not a directory"),
        ("/proc/x", "No such file"),
        ("s3://", "no bucket"),
        ("file:///", "no bucket"),
    ],
)
def test_a_place_that_cannot_be_is_told(report: Path, tmp_path: Path, target: str, what: str) -> None:
    (problem,) = problems(publish_to, target, report)
    assert what in problem.what
    assert problem.fix
    assert not {*tmp_path.iterdir()} - {tmp_path / "results"}


@pytest.mark.parametrize("name", [".htaccess", "CNAME"])
def test_a_folder_with_a_file_that_was_added_is_refused(report: Path, newer: Path, tmp_path: Path, name: str) -> None:
    publish_to(str(tmp_path / "web"), report)
    (tmp_path / "web/demo" / name).write_text("mine")
    (problem,) = problems(publish_to, str(tmp_path / "web"), newer)
    assert f"holds '{name}'" in problem.what
    assert (tmp_path / "web/demo" / name).read_text() == "mine"


@pytest.mark.slow
def test_a_file_that_was_added_to_a_branch_or_bucket_stays(
    report: Path, newer: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    publish_to("git:gh-pages", report, ".")
    git(clone, "fetch", "--quiet", "origin", "gh-pages")
    git(clone, "switch", "--quiet", "--detach", "FETCH_HEAD", "--force")
    (clone / "CNAME").write_text("mine")
    git(clone, "add", "CNAME")
    git(clone, "commit", "--quiet", "-m", "mine")
    git(clone, "push", "--quiet", "origin", "HEAD:gh-pages")
    publish_to("git:gh-pages", newer, ".")
    assert published(clone).keys() == {".nojekyll", MARKER, "CNAME", "index.html", "leaderboard.csv"}

    publish_to("memory://bucket", report)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/demo/CNAME", b"mine")
    publish_to("memory://bucket", newer)
    assert {Path(each).name for each in memory.find("/bucket")} == {MARKER, "CNAME", "index.html", "leaderboard.csv"}
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("below", ["../x", "a/../../b", ".git"])
def test_a_report_stays_in_the_place_it_is_published_to(report: Path, tmp_path: Path, below: str) -> None:
    (problem,) = problems(publish_to, str(tmp_path / "web"), report, below)
    assert problem.where == "--below"


def test_a_branch_that_is_absent_is_made_without_a_parent(
    report: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    before = files_of(clone)
    publish_to("git:gh-pages", report)
    assert files_of(clone) == before
    assert published(clone).keys() == {".nojekyll", f"demo/{MARKER}", "demo/index.html", "demo/samples/a.html"}
    assert published(clone)["demo/samples/a.html"] == "a\r\n"
    assert git(clone.parent / "bare.git", "rev-list", "--count", "gh-pages") == "1"


def test_a_newer_report_follows_the_older_one(
    report: Path, newer: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    publish_to("git:gh-pages", report)
    assert publish_to("git:gh-pages", report).startswith("already published")
    before = files_of(clone)
    publish_to("git:gh-pages", newer)
    assert files_of(clone) == before
    assert published(clone).keys() == {".nojekyll", f"demo/{MARKER}", "demo/index.html", "demo/leaderboard.csv"}
    assert git(clone.parent / "bare.git", "rev-list", "--count", "gh-pages") == "2"


def test_what_others_have_on_the_branch_stays(report: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(clone, "push", "--quiet", "origin", "main:gh-pages")
    monkeypatch.chdir(clone)
    publish_to("git:gh-pages", report)
    assert published(clone)["code.py"] == "1"
    (problem,) = problems(publish_to, "git:gh-pages", report, ".")
    assert "not a published report" in problem.what


def test_a_push_of_somebody_else_meanwhile_is_kept(
    report: Path, newer: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their commit comes between the look at the branch and the push."""
    monkeypatch.chdir(clone)
    publish_to("git:gh-pages", report, "other")
    from shardmark.export.publish import git as module

    make, calls = module._commit, []

    def slowly(*arguments: object) -> str | None:
        found = make(*arguments)  # type: ignore[arg-type]
        if not calls:
            calls.append(1)
            publish_to("git:gh-pages", report, "theirs")
        return found

    monkeypatch.setattr(module, "_commit", slowly)
    publish_to("git:gh-pages", newer)
    assert {name.partition("/")[0] for name in published(clone)} == {".nojekyll", "other", "theirs", "demo"}


def test_a_refused_push_changes_nothing_and_is_told(report: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = clone.parent / "bare.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    hook.chmod(0o755)
    monkeypatch.chdir(clone)
    (problem,) = problems(publish_to, "git:gh-pages", report)
    assert "protected branch" in problem.what
    assert git(clone.parent / "bare.git", "branch", "--list", "gh-pages") == ""


def test_outside_a_clone_a_remote_has_an_address(report: Path, clone: Path, tmp_path: Path) -> None:
    publish_to("git:gh-pages", report, remote=str(clone.parent / "bare.git"))
    assert "demo/index.html" in published(clone)
    (problem,) = problems(publish_to, "git:gh-pages", report)
    assert problem.what == "there is no git remote 'origin' here"
    assert problems(publish_to, "git:a..b", report, None, str(clone.parent / "bare.git"))


def test_passwords_in_an_address_are_not_told(report: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    git(clone, "remote", "add", "far", "https://me:secret@127.0.0.1:9/x.git")
    (problem,) = problems(publish_to, "git:gh-pages", report, None, "far")
    assert "secret" not in str(problem)


@pytest.mark.slow
def test_a_bucket_gets_the_report_with_types_and_loses_what_is_old(
    report: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(monkeypatch) as address:
        client, bucket = boto3.client("s3"), address.split("/")[2]
        publish_to(address, report)
        told = client.head_object(Bucket=bucket, Key="shared/demo/index.html")
        assert told["ContentType"] == "text/html"
        publish_to(address, newer)
        keys = {each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]}
        assert keys == {f"shared/demo/{name}" for name in (MARKER, "index.html", "leaderboard.csv")}
        client.put_object(Bucket=bucket, Key="shared/mine/index.html", Body=b"mine")
        (problem,) = problems(publish_to, address, report, "mine")
        assert "not a published report" in problem.what


def test_the_password_of_an_address_is_not_printed(report: Path) -> None:
    assert "secret" not in publish_to("memory://me:secret@bucket", report)
    fsspec.filesystem("memory").rm("/me:secret@bucket", recursive=True)


def test_a_bucket_that_is_not_there_is_told(report: Path) -> None:
    (problem,) = problems(publish_to, "nosuch://bucket", report)
    assert problem.where == "nosuch://bucket"
