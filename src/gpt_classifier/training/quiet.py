"""Say what concerns the user, once."""

import logging
import warnings

from lightning.pytorch.utilities.rank_zero import rank_zero_only

OF_NO_CONCERN = (
    ".*does not have many workers.*",  # messages and text are in memory, tokenized
    ".*smaller than the logging interval.*",  # such a run has its epochs to look at
    ".*mid-epoch.*",  # a pretraining's loader goes on from the step
    ".*The dirpath has changed.*",  # of a resumed run
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*Glyph .* missing from font.*",  # a class name in a script that the pictures' font lacks
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # metrics are gathered before they are logged
    ".*You have overridden `on_before_batch_transfer`.*",
)


def quieten() -> None:
    """Silence what Lightning tells its developers, and all processes but the first."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in OF_NO_CONCERN:
        warnings.filterwarnings("ignore", message)
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined] # known before the trainer is
        logging.getLogger("gpt_classifier").setLevel(logging.ERROR)
