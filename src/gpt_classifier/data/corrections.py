"""Labels that a person has put right, and messages that a person has taken out."""

from dataclasses import replace
from os import PathLike

from gpt_classifier.data.prepare import text_hash
from gpt_classifier.data.sources import Messages
from gpt_classifier.errors import OptionError
from gpt_classifier.tables.corrections import read_corrections


def corrected(messages: Messages, path: str | PathLike[str]) -> tuple[Messages, str]:
    """Relabel and remove what a table says, of the messages that are yet to be split.

    Args:
        messages: of a source; those that it gives for validation and test stay as they are.
        path: of the table, see `read_corrections`.

    Returns:
        The messages that are left, and a sentence about the others.

    Raises:
        OptionError: of `corrections`: the table is none, is of other messages, or names a class that there is not.
    """
    frame = messages.frame if "row" in messages.frame else messages.frame.assign(row=range(len(messages.frame)))
    try:
        corrections = read_corrections(path)
    except OptionError as error:
        error.field = "corrections"
        raise
    pool = frame[frame["split"].isna()]
    place = dict(zip(pool["row"].tolist(), pool.index, strict=True))
    labels, removed = frame["label"].copy(), []
    for one in corrections:
        if one.row not in place or text_hash(frame["text"][place[one.row]]) != one.hash:
            raise OptionError(
                "corrections",
                "corrections of these messages",
                f"{path}, whose row {one.row} is another text here, or none",
                "Look for label errors in these messages again.",
            )
        if one.label is None:
            removed.append(place[one.row])
        elif one.label not in messages.class_names:
            known = ", ".join(messages.class_names[:10])
            found = f"{path}, where row {one.row} gets the label {one.label!r}"
            raise OptionError("corrections", f"labels of the messages ({known})", found)
        else:
            labels[place[one.row]] = one.label
    frame = frame.assign(label=labels).drop(index=removed).reset_index(drop=True)
    names = [name for name in messages.class_names if (frame["label"] == name).any()]
    told = f"{len(corrections) - len(removed)} relabelled, {len(removed)} left out by {path}"
    return replace(messages, frame=frame, class_names=names), told
