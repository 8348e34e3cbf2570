"""What a run is told beside its configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightning import Callback

from gpt_classifier.data.sources import Source
from gpt_classifier.models.pooling import Pooling


@dataclass(frozen=True)
class RunContext:
    """Where a run takes place.

    Args:
        folder: for everything that the run leaves; `None` writes nothing.
        choices: what was chosen of each config group, such as `model: gpt2-nano`; for titles and comparisons.
        sweep: whether the run is one of several of a sweep.
        varied: what the sweep varies, with the values of this run as a person reads them.
        source: texts and labels instead of those that the configuration names.
        pooling: makes the pooling from the width of the hidden states, instead of what the configuration names.
        interruptible: Ctrl-C ends training but not the process, and what was learned so far is the result.
        progress: whether a run without a folder shows a bar.
        callbacks: Lightning's, after those that the configuration names.
    """

    folder: Path | None
    choices: Mapping[str, str] = field(default_factory=dict)
    sweep: bool = False
    varied: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None
    pooling: Callable[[int], Pooling] | None = None
    interruptible: bool = False
    progress: bool = True
    callbacks: Sequence[Callback] = ()

    def title(self) -> str:
        """The run in one line."""
        groups = ("model", "freeze", "pooling", "data")
        return " · ".join(self.choices[group] for group in groups if group in self.choices)
