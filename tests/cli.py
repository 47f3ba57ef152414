"""The `hanlin` command in the test's own process: as quick as a function, and as complete as a call from a shell."""

import io
import os
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from hanlin.cli.entry import main
from tests.service import KEY

_OWN = ("HANLIN_", "DASHSCOPE_", "LC_", "COLUMNS")


class Done(NamedTuple):
    """A call that is over, as `subprocess.run` tells it."""

    returncode: int
    stdout: str
    stderr: str


def hanlin(home: Path, *arguments: str, **more: str) -> Done:
    """Run the command to its end, in an environment with this home and nothing of the developer's own.

    Help pages and heads of tables are in the language that the test run has; messages follow HANLIN_LANG.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    given = {"HANLIN_HOME": str(home), "HANLIN_LANG": "en", "DASHSCOPE_API_KEY": KEY, "NO_COLOR": "1", **more}
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    code = 0
    with (
        Path(os.devnull).open() as nothing,
        mock.patch.object(sys, "stdin", nothing),
        mock.patch.dict(os.environ, {**kept, **given}, clear=True),
        mock.patch.object(sys, "argv", ["hanlin", *arguments]),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out.flush()
        err.flush()
    return Done(code, *(stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)))
