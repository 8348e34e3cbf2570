"""Lightning's loggers, and what they leave open. Nothing here imports Lightning before a logger is built."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig

from gpt_classifier.config import InstantiationException, instantiate
from gpt_classifier.errors import UserError


def build_logger(name: str, config: DictConfig) -> Any:
    """A Lightning logger.

    Args:
        name: of its entry in the group `logger`.
        config: what it is built from.

    Raises:
        UserError: its extra is not installed.
    """
    try:
        return instantiate(config)
    except InstantiationException as error:
        if isinstance(error.__cause__, ImportError):
            raise UserError(f'logger={name} needs the extra of that name: pip install -e ".[{name}]"') from error
        raise


@contextmanager
def own_wandb_run() -> Iterator[None]:
    """End the Weights & Biases run that a job began.

    wandb has one run for a process, and Lightning's logger takes one that is open: the next job of a sweep would go on
    with the record of this one.
    """
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=exit_code)
