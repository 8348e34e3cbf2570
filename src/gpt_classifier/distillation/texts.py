"""Texts that a teacher labels, and the sets with labels beside them, as a source of messages."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from gpt_classifier.data.sources import Messages
from gpt_classifier.data.sources.table import expect_labels, frame_of
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tables.labelled import LabelledFiles, Quoting, check_quoting
from gpt_classifier.tables.reading import Style
from gpt_classifier.tables.unlabelled import UnlabelledTexts

NOTE = (
    "The {splits} messages have no labels but the teacher's: what is measured on them, accuracy among it, is agreement "
    "with the teacher."
)


class Unlabelled:
    """Files of texts without labels, and perhaps of labelled texts to validate and test on.

    Args:
        path: the file of texts, or a pattern of several with the same columns; empty ones are left out.
        text_column: the column of texts, in all files; a `.txt` file has none, but a text a line, or documents between
            lines `<|endoftext|>`.
        label_column: of `val_path` and `test_path`.
        val_path: a table with the validation set, or a pattern; `None` for none.
        test_path: the same with the test set.
        separator: of text files, see `gpt_classifier.tables.labelled.LabelledTable`, as all that follows.
        encoding: of text files.
        quoting: `minimal` or `none`.
        drop_incomplete: leave out labelled rows that can't be used, with a warning, instead of refusing them.
        sheet: of an Excel workbook; `None` for its first.

    Raises:
        OptionError: an option does not fit.
    """

    def __init__(
        self,
        path: str | None,
        text_column: str,
        label_column: str,
        val_path: str | None = None,
        test_path: str | None = None,
        separator: str | None = None,
        encoding: str = "utf-8",
        quoting: Quoting = "minimal",
        drop_incomplete: bool = False,
        sheet: str | None = None,
    ) -> None:
        if path is None:
            raise OptionError("path", "a file of texts without labels", path, "Set {field}=FILE.")
        check_quoting(quoting)
        style = Style(separator, encoding, quoting, sheet)
        columns = {"text": text_column, "label": label_column}
        self.texts = UnlabelledTexts(path, text_column, separator, encoding, quoting, sheet)
        self.labelled = {
            split: LabelledFiles(given, columns, style, drop_incomplete, f"{split}_")
            for split, given in (("val", val_path), ("test", test_path))
            if given
        }

    def prepare(self) -> None:
        """Refuse a run that has no teacher.

        Raises:
            UserError: always.
        """
        raise UserError(
            "data=unlabelled: expected a teacher, as these texts have no labels. Distil from one with gpt-classifier "
            "distil --teacher CHECKPOINT --student data.path=FILE."
        )


class Taught:
    """What `Unlabelled` names, its texts with a teacher's probabilities and most probable classes.

    Args:
        files: of texts and labelled sets.
        class_names: C names, in the order of their ids.
        teach: the probabilities `(N, C)` float32 of N texts.
        held_out: those of `val` and `test` that are made of the texts, and measured against the teacher.
        whole_numbers: whether the classes are whole numbers.

    Raises:
        OptionError: on `load`, when a file, a column or a value is not as expected.
    """

    def __init__(
        self,
        files: Unlabelled,
        class_names: list[str],
        teach: Callable[[list[str]], np.ndarray],
        held_out: Sequence[str] = (),
        whole_numbers: bool = False,
    ) -> None:
        self.files = files
        self.class_names = class_names
        self.teach = teach
        self.held_out = held_out
        self.whole_numbers = whole_numbers

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        """All messages: those of the texts have `probabilities`."""
        found = self.files.texts.numbered()
        parts = [self._labelled(split) for split in self.files.labelled]  # refused before a teacher takes its time
        texts = [text for _, text in found]
        probabilities = self.teach(texts)  # (N, C)
        labels = np.array(self.class_names, dtype=object)[probabilities.argmax(axis=1)]
        taught = pd.DataFrame({"label": labels, "text": texts, "row": [number for number, _ in found], "split": None})
        frame = pd.concat([taught.assign(probabilities=list(probabilities)), *parts], ignore_index=True)
        note = NOTE.format(splits=" and ".join(self.held_out)) if self.held_out else ""
        return Messages(frame, self.class_names, note, self.whole_numbers)

    def _labelled(self, split: str) -> pd.DataFrame:
        files = self.files.labelled[split]
        frame = frame_of(files.read()[0], split)
        expect_labels(frame, self.class_names, f"{split}_path", str(files.path))
        return frame
