"""Suspects as one HTML page that needs nothing beside it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gpt_classifier import pages
from gpt_classifier.crossfitting.label_errors import CONTRADICTION, IMPROBABLE, OUTLIER
from gpt_classifier.evaluation.page import LONGEST_MESSAGE, MOST_OTHERS, shortened
from gpt_classifier.tables.corrections import HASH

MOST_ROWS = 200  # of each reason

ABOUT = {
    IMPROBABLE: (
        "Labels that are probably wrong",
        "By confident learning (Northcutt, Jiang and Chuang, 2021), the least probable label first.",
    ),
    CONTRADICTION: (
        "Contradictions",
        "Messages that are equal to others but for case, digits and punctuation, and have another label than most.",
    ),
    OUTLIER: ("Outliers", "Messages that are least like any others, in runs of 3 to 5 characters."),
}

OWN = ("row", "action", "label", "suggested", "confidence", "reason", "why", "text", HASH)


def render(suspects: pd.DataFrame, messages: int, table: Path, facts: Sequence[str]) -> str:
    """The page.

    Args:
        suspects: as `label_errors.table` makes them.
        messages: that were looked at.
        table: where the suspects are.
        facts: about the messages and the classifier, in a few words.
    """
    counts = [(int((suspects["reason"] == reason).sum()), title) for reason, (title, _) in ABOUT.items()]
    parts = []
    for reason, (title, about) in ABOUT.items():
        own = suspects[suspects["reason"] == reason]
        rows = [_row(row) for row in own.head(MOST_ROWS).to_dict("records")]
        parts.append({"title": title, "about": about, "rows": rows, "more": len(own) - len(rows)})
    return pages.render(
        "label_errors",
        title="Suspicious labels",
        headline=" · ".join([f"{messages:,} messages", *facts]),
        notes=[],
        tiles=counts,
        parts=parts,
        table=str(table.name),
        command=f"gpt-classifier train … data.corrections={table}",
    )


def _row(row: dict) -> dict[str, str]:
    others = [(name, value) for name, value in row.items() if name not in OWN and value not in ("", None)]
    return {
        **{name: shortened(str(row[name])) for name in ("row", "label", "suggested")},
        "confidence": f"{row['confidence']:.4f}",
        "why": shortened(row["why"], LONGEST_MESSAGE),
        "text": shortened(row["text"], LONGEST_MESSAGE),
        "others": " · ".join(
            f"{shortened(str(name))}: {shortened(str(value))}" for name, value in others[:MOST_OTHERS]
        ),
    }
