"""Insert many rows by few statements.

A statement a row would have to win the interpreter's lock anew for each row, against all the calls that are served
meanwhile, while the database waits. And building statements from expressions costs as much as inserting the rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Dialect, Table
from sqlalchemy.ext.asyncio import AsyncConnection

# SQLite compiles a statement for each number of rows and keeps it: few numbers, so that few are kept.
_ROWS_A_STATEMENT = (256, 32, 4, 1)


async def insert(
    connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], tail: str
) -> list[tuple[Any, ...]]:
    """Insert rows, all of which have the same columns in the same order, and return what the statements return.

    `tail` is what follows the values, ON CONFLICT and RETURNING. Rows are inserted in their order.
    """
    if not rows:
        return []
    names = tuple(rows[0])
    values = _for_driver(rows, _processors(connection.dialect, table, names))
    if connection.dialect.name == "postgresql":
        statement = _of_arrays(connection.dialect, table, names, tail)
        statements: Iterator[tuple[str, tuple[Any, ...]]] = iter(
            [(statement, tuple(map(list, zip(*values, strict=True))))]
        )
    else:
        statements = _of_values(table, names, values, tail)
    found: list[tuple[Any, ...]] = []
    for statement, parameters in statements:
        result = await connection.exec_driver_sql(statement, parameters)
        if result.returns_rows:
            found += map(tuple, result)
    return found


def _for_driver(rows: Sequence[Mapping[str, Any]], processors: Mapping[int, Callable[[Any], Any]]) -> list[list[Any]]:
    values = [list(row.values()) for row in rows]
    for number, process in processors.items():
        for row in values:
            row[number] = process(row[number])
    return values


def _processors(dialect: Dialect, table: Table, names: Sequence[str]) -> dict[int, Callable[[Any], Any]]:
    """Return what turns the values of some columns into the driver's, by the place of the column."""
    found: dict[int, Callable[[Any], Any]] = {}
    for number, name in enumerate(names):
        if process := table.c[name].type.dialect_impl(dialect).bind_processor(dialect):
            found[number] = process
    return found


def _of_values(
    table: Table, names: tuple[str, ...], values: list[list[Any]], tail: str
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    start = 0
    for size in _ROWS_A_STATEMENT:
        while len(values) - start >= size:
            part = values[start : start + size]
            yield _of_size(table.name, names, size, tail), tuple(value for row in part for value in row)
            start += size


@cache
def _of_size(table: str, names: tuple[str, ...], size: int, tail: str) -> str:
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * size)} {tail}"  # noqa: S608 - our words


def _of_arrays(dialect: Dialect, table: Table, names: tuple[str, ...], tail: str) -> str:
    """Return a statement whose parameters are columns: PostgreSQL takes at most 32,767, and parses each."""
    types = [table.c[name].type.compile(dialect) for name in names]
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays}) {tail}"  # noqa: S608 - our words
