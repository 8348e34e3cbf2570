"""Long fields, and a process that is left as it was."""

import csv

import pytest

from gpt_classifier.csv_files import rows


def test_long_fields_are_read_without_changing_the_limit_of_others() -> None:
    before = csv.field_size_limit()
    found = rows(csv.reader(["a,b", f"{'x' * (before + 1)},y"]), longest_field=before + 1)
    for expected in ("b", "y"):
        assert next(found)[1] == expected
        assert csv.field_size_limit() == before
    assert list(found) == []
    with pytest.raises(csv.Error, match="field larger"):
        next(rows(csv.reader(["abc"]), longest_field=2))
    assert csv.field_size_limit() == before
