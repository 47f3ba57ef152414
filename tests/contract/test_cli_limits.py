"""`hanlin limits` as people and scripts run it, on a home of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli import hanlin


def asked(home: Path, *arguments: str) -> Any:
    done = hanlin(home, "limits", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_limits_are_set_listed_changed_and_removed(tmp_path: Path) -> None:
    """A name for programs, the models that it stands for beside it."""
    made = asked(tmp_path, "set", "qwen3-*", "--rpm", "600", "--budget", "100")
    changed = asked(tmp_path, "set", "qwen3-*", "--tpm", "1000", "--rpm", "none")
    listed = asked(tmp_path, "list")
    shown = hanlin(tmp_path, "limits", "list", COLUMNS="80").stdout
    gone = asked(tmp_path, "remove", "qwen3-*")

    assert made["limits"] == {
        "rpm": 600,
        "tpm": None,
        "concurrency": None,
        "budget": {"nanos": 100_000_000_000, "currency": "CNY", "period": "month"},
    }
    assert changed["limits"] == {**made["limits"], "rpm": None, "tpm": 1000}
    assert "qwen3-max" in changed["names"]
    assert listed == [changed] == [gone]
    assert "1,000 tpm" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert asked(tmp_path, "list") == []


def test_a_name_of_the_operators_own_may_be_limited(tmp_path: Path) -> None:
    """One that a [[deployment]] states, though no catalogue knows it."""
    (tmp_path / "hanlin.toml").write_text(
        '[[deployment]]\nname = "gpu"\nurl = "http://127.0.0.1:9/v1"\nserves = ["our-model", "qwen3-*"]\n'
    )

    assert asked(tmp_path, "set", "our-model", "--concurrency", "2")["names"] == ["our-model"]


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (("set", "claude-*", "--rpm", "1"), 1, "matches no name that can be called"),
        (("set", "claude-*", "--rpm", "1"), 1, "known to it alone: add --url"),
        (("set", "qwen-plus"), 2, "nothing to set"),
        (("set", "qwen-plus", "--rpm", "many"), 2, "whole number"),
        (("remove", "qwen-plus"), 1, "no limits are set for this"),
    ],
)
def test_what_cannot_be_done_says_why(tmp_path: Path, arguments: tuple[str, ...], code: int, remedy: str) -> None:
    """And changes nothing."""
    done = hanlin(tmp_path, "limits", *arguments)

    assert done.returncode == code
    assert remedy in done.stderr
    assert asked(tmp_path, "list") == []
