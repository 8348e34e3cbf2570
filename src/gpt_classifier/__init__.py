"""Fine-tune a GPT that was pretrained to continue text into a text classifier."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt_classifier.crossfitting.texts import crossfit
    from gpt_classifier.inference.text_classifier import TextClassifier

__all__ = ["TextClassifier", "__version__", "crossfit"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name == "TextClassifier":  # imported on demand: torch takes seconds
        from gpt_classifier.inference.text_classifier import TextClassifier

        return TextClassifier
    if name == "crossfit":
        from gpt_classifier.crossfitting.texts import crossfit

        return crossfit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
