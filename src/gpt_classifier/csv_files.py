"""Reading CSV without changing the csv module for others."""

import csv
from collections.abc import Iterator
from typing import Any


def rows(reader: Any, longest_field: int) -> Iterator[list[str]]:
    """The rows of a `csv.reader`, whose fields may be longer than the module's limit.

    That limit, `csv.field_size_limit`, is one for the whole process: it is set while a row is read, and set back.

    Args:
        reader: the `csv.reader`.
        longest_field: in characters.

    Raises:
        csv.Error: a longer field, or whatever else `reader` refuses.
    """
    while True:
        before = csv.field_size_limit(longest_field)
        try:
            row = next(reader)
        except StopIteration:
            return
        finally:
            csv.field_size_limit(before)
        yield row
