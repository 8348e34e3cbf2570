"""Rows of JSON: a line each, or a document with all of them."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import IO, Any

from gpt_classifier.errors import OptionError, first_line
from gpt_classifier.tables.rows import EMPTY_LINE, Row, size_of

DEEPEST = 100  # lists and objects inside one another in a row
LARGEST = 500_000_000  # characters of a document, which is read as a whole


def json_line(line: str) -> Row:
    """A row from a line of JSON lines, or why it is none."""
    if not line.strip():
        return Row({"line": line}, EMPTY_LINE, len(line))
    try:
        fields = json.loads(line)
    except RecursionError:
        return _no_row(line, TOO_DEEP, len(line))
    except ValueError as error:
        return _no_row(line, f"the line is not JSON: {first_line(error)}", len(line))
    if line.count("[") + line.count("{") > DEEPEST and _is_deeper(fields, DEEPEST):
        return _no_row(line, TOO_DEEP, len(line))
    if not isinstance(fields, dict):
        return _no_row(fields, "the line is not a JSON object", len(line))
    return Row(fields, size=len(line))


TOO_DEEP = f"the line has more than {DEEPEST} lists and objects inside one another"


def _no_row(held: Any, reason: str, size: int) -> Row:
    return Row({"line": held}, reason, size)


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are inside one another more than `depth` times."""
    level = [value]
    for _ in range(depth + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return bool(level)


def read_json(source: IO[str], name: str, wanted: Iterable[str] = ()) -> tuple[list[str], Iterator[Row]]:
    """The columns of a JSON document and its rows, read as a whole.

    It may be a list of objects, or an object of columns, each a list or an object by row; also what `to_json` of pandas
    writes as `index`, `split` and `table`. A file of JSON lines that is called `.json` is taken as what it is.

    Args:
        source: opened.
        name: of the file, for messages.
        wanted: names of columns, which tell an object of columns from an object of rows.

    Raises:
        OptionError: of `path`: it is none of these.
    """
    lines = (line for line in iter(partial(source.readline, LARGEST), "") if line.strip())
    first = next(lines, "")
    second = next(lines, "") if _is_object(first) else ""
    if second:
        rows = [json_line(line) for line in chain([first, second], lines)]
    else:
        text = first + source.read(LARGEST)
        if len(text) >= LARGEST:
            found = f"{name}, which has more"
            hint = "A .jsonl file, with an object a line, may have any size."
            raise OptionError("path", f"a JSON document of fewer than {LARGEST:,} characters", found, hint)
        try:
            rows = [_row(fields) for fields in _rows_of(json.loads(text), list(wanted))]
        except (ValueError, RecursionError) as error:
            raise OptionError("path", f"JSON with {DOCUMENT}", f"{name}: {first_line(error)}", HINT) from error
    columns = list(dict.fromkeys(key for row in rows if not row.reason for key in row.fields))
    return columns, iter(rows)


DOCUMENT = "a list of objects, or an object of columns"
HINT = 'Such as [{"text": "…", "label": "…"}] or {"text": ["…"], "label": ["…"]}.'


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _row(fields: Any) -> Row:
    if _is_deeper(fields, DEEPEST):
        return _no_row(None, TOO_DEEP, 0)
    if not isinstance(fields, dict):
        return _no_row(fields, "the row is not a JSON object", len(str(fields)))
    return Row(fields, size=size_of(fields.values()))


def _rows_of(document: Any, wanted: list[str]) -> Sequence[Any]:
    """The objects of a document, whatever its orientation.

    Raises:
        ValueError: it has none.
    """
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise ValueError("it is neither a list nor an object")
    data, columns = document.get("data"), document.get("columns")
    if isinstance(data, list) and isinstance(columns, list):
        return [dict(zip(map(str, columns), row, strict=True)) for row in data]
    if isinstance(data, list) and "data" not in wanted and all(isinstance(row, dict) for row in data):
        return data
    kinds = {type(column) for column in document.values()}
    if kinds == {list}:
        return _transposed(document)
    if kinds == {dict}:
        inner = next(iter(document.values()))
        if set(wanted) <= inner.keys() and not set(wanted) <= document.keys():
            return list(document.values())
        return _transposed({name: column.values() for name, column in document.items()})
    if kinds & {list, dict}:
        raise ValueError("some of its values are columns, and others are not")
    return [document] if document else []


def _transposed(columns: Mapping[str, Collection[Any]]) -> list[dict[str, Any]]:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError("its columns have different lengths: " + ", ".join(f"{n} {k}" for k, n in lengths.items()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
