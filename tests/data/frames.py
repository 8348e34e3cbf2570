"""Frames of messages to try the data package on."""

import pandas as pd


def messages(*rows: tuple[str, str, str | None]) -> pd.DataFrame:
    """Rows of text, label and split."""
    return pd.DataFrame(rows, columns=["text", "label", "split"]).astype({"split": object})


def pool(**counts: int) -> pd.DataFrame:
    """That many different messages of each class, yet to be split."""
    return messages(*[(f"{label} {i}", label, None) for label, n in counts.items() for i in range(n)])
