"""The Hub is asked for commits, and a Hub that says nothing is waited for once."""

from typing import Any

import pytest
from httpx2 import ConnectTimeout

from projects import problems
from shardmark.lock import hub
from shardmark.lock.hub import ask_files, ask_hub, login_fix


def test_a_hub_that_says_nothing_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def repo_info(self: Any, repository: str, **_: Any) -> None:
        asked.append(repository)
        raise ConnectTimeout("timed out")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)
    monkeypatch.setattr(hub, "_silence", [])
    for name in ("org/a", "org/b"):
        (problem,) = problems(ask_hub, "model", name, None, f"{name}.yaml", False)
        assert problem.what == f"cannot reach the Hub for {name} (timed out)"
    with pytest.raises(ConnectTimeout):
        ask_files("model", "org/c", "0" * 40)
    assert asked == ["org/a"]


@pytest.mark.parametrize(
    ("variable", "logged_in", "said"),
    [
        (None, None, "set HF_TOKEN or run `hf auth login`"),
        ("hf_abcdefghijKL1234", "hf_abcdefghijKL1234", "(that of HF_TOKEN may not)"),
        (None, "hf_abcdefghijKL1234", "(the one logged in may not)"),
    ],
)
def test_a_refusal_says_which_token_was_used_and_not_the_token(
    variable: str | None, logged_in: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if variable:
        monkeypatch.setenv("HF_TOKEN", variable)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: logged_in)
    assert said in login_fix()
    assert "hf_abc" not in login_fix()
