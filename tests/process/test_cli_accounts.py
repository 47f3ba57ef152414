"""`hanlin keys`, `workspaces`, `usage` and `prices` as real processes: what a shell sees of the tests in
`contract/test_cli_keys.py` and `test_cli_usage.py`.
"""

import json
import re
import subprocess
from pathlib import Path

from tests.contract.test_cli import HANLIN, environment, hanlin


def test_a_key_alone_goes_to_stdout_and_its_id_to_stderr(tmp_path: Path) -> None:
    """`export DASHSCOPE_API_KEY=$(hanlin keys create)` must hold the key and nothing else."""
    done = hanlin(tmp_path, "keys", "create", "--name", "laptop")
    listed = hanlin(tmp_path, "keys", "list", "--json")

    assert done.returncode == 0
    assert re.fullmatch(r"sk-\w{48}\n", done.stdout)
    assert json.loads(listed.stdout)[0]["id"] in done.stderr
    assert done.stdout.strip() not in listed.stdout + listed.stderr


def test_exit_codes_are_those_that_the_help_promises(tmp_path: Path) -> None:
    """Scripts tell a failure from a wrong call by them."""
    assert hanlin(tmp_path, "workspaces", "create", "--name", "research").returncode == 0
    assert hanlin(tmp_path, "workspaces", "create", "--name", "research").returncode == 1
    assert hanlin(tmp_path, "usage", "--by", "colour").returncode == 2


def test_a_table_that_nobodys_screen_limits_is_as_wide_as_it_needs_to_be(tmp_path: Path) -> None:
    """Piped into a file, as well as a program's CSV."""
    prices = hanlin(tmp_path, "prices", "qwen-plus")
    usage = hanlin(tmp_path, "usage", "--csv")

    assert "batch out" in prices.stdout
    assert usage.stdout.startswith("model,calls,failed,")
    assert not (tmp_path / "hanlin.db").exists()


def test_a_reader_that_has_enough_ends_an_export_in_silence(tmp_path: Path) -> None:
    """`hanlin usage --calls --all --csv | head` must not end in a traceback."""
    process = subprocess.Popen(
        [HANLIN, "prices", "--json"], env=environment(tmp_path, {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None

    process.stdout.close()

    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def test_a_terminal_of_another_encoding_is_told_what_is_wrong(tmp_path: Path) -> None:
    """Bytes that are no text reach the command as halves of characters."""
    done = hanlin(tmp_path, "keys", "create", "--name", "\udcff")

    assert (done.returncode, done.stdout) == (1, "")
    assert "not Unicode" in done.stderr
