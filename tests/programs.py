"""Run the programs of `examples/` as their readers would, against a service: only their base URL is changed."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.service import KEY, Service

EXAMPLES = Path(__file__).parents[1] / "examples"
_BASE_URL = re.compile(r"\"https?://[^\"]*/compatible-mode/v1\"")


def run_program(name: str, service: Service, folder: Path, within_s: float = 600.0) -> str:
    """Return what a program prints. It must end well, and say nothing on stderr."""
    text, changed = _BASE_URL.subn(f'"{service.base_url}"', (EXAMPLES / name).read_text(encoding="utf-8"))
    assert changed == 1, f"{name} names its base URL {changed} times"
    program = folder / name
    program.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "DASHSCOPE_API_KEY": KEY, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=within_s,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def parts_of(name: str) -> dict[str, Any]:
    """Return the functions and constants of a program by their names, without running it; `client` is no part."""
    program = ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))
    parts: dict[str, Any] = {}
    body = ast.Module([node for node in program.body if _is_part(node)], [])
    exec(compile(body, name, "exec"), parts)  # a program of ours
    return parts


def _is_part(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(one.id.isupper() for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name))
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef)


__all__ = ["EXAMPLES", "parts_of", "run_program"]
