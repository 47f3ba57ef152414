"""Insert many rows by few statements.

A statement a row would have to win the interpreter's lock anew for each row, against all the calls that are served
meanwhile, while the database waits. And building statements from expressions costs as much as inserting the rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Boolean, CursorResult, Dialect, Double, Table
from sqlalchemy.ext.asyncio import AsyncConnection

# SQLite compiles a statement for each number of rows and keeps it: few numbers, so that few are kept.
_ROWS_A_STATEMENT = (256, 64, 16, 4, 1)


async def insert(
    connection: AsyncConnection, table: Table, names: tuple[str, ...], rows: Sequence[Sequence[Any]], tail: str
) -> int:
    """Insert rows, the values of the columns `names`, in their order; return how many were inserted or changed.

    `tail` is what follows the values: ON CONFLICT.
    """
    return sum([result.rowcount for result in await _results(connection, table, names, rows, tail)])


async def insert_returning(
    connection: AsyncConnection, table: Table, names: tuple[str, ...], rows: Sequence[Sequence[Any]], tail: str
) -> list[tuple[Any, ...]]:
    """As `insert`, with a `tail` that ends in RETURNING; return what it returns, which costs half as much again."""
    return [tuple(row) for result in await _results(connection, table, names, rows, tail) for row in result]


async def _results(
    connection: AsyncConnection, table: Table, names: tuple[str, ...], rows: Sequence[Sequence[Any]], tail: str
) -> list[CursorResult[Any]]:
    if not rows:
        return []
    values, dialect, width = list(chain.from_iterable(rows)), connection.dialect, len(names)
    for number, process in _processors(dialect, table, names).items():
        values[number::width] = map(process, values[number::width])
    if dialect.name == "postgresql":
        columns = tuple(values[number::width] for number in range(width))
        return [await connection.exec_driver_sql(_of_arrays(dialect, table, names, tail), columns)]
    return [
        await connection.exec_driver_sql(
            _of_size(table.name, names, size, tail), tuple(values[start : start + size * width])
        )
        for start, size in _parts(len(rows), width)
    ]


@lru_cache(maxsize=32)
def _processors(dialect: Dialect, table: Table, names: tuple[str, ...]) -> Mapping[int, Callable[[Any], Any]]:
    """Return what turns the values of some columns into the driver's, by the place of the column.

    Drivers take bools and floats as they are: what SQLAlchemy has for them only looks whether they are such.
    """
    found: dict[int, Callable[[Any], Any]] = {}
    for number, name in enumerate(names):
        kind = table.c[name].type
        if not isinstance(kind, Boolean | Double) and (process := kind.dialect_impl(dialect).bind_processor(dialect)):
            found[number] = process
    return found


def _parts(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield where the values of each statement begin, and how many rows they are."""
    start = 0
    for size in _ROWS_A_STATEMENT:
        while rows >= size:
            yield start, size
            start += size * width
            rows -= size


@cache
def _of_size(table: str, names: tuple[str, ...], size: int, tail: str) -> str:
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * size)} {tail}"  # noqa: S608 - our words


def _of_arrays(dialect: Dialect, table: Table, names: tuple[str, ...], tail: str) -> str:
    """Return a statement whose parameters are columns: PostgreSQL takes at most 32,767, and parses each."""
    types = [table.c[name].type.compile(dialect) for name in names]
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays}) {tail}"  # noqa: S608 - our words
