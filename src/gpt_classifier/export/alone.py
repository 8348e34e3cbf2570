"""What forms that hold a transformer alone refuse."""

from gpt_classifier.errors import UserError
from gpt_classifier.spec import Spec


def expect_alone(spec: Spec, target: str) -> None:
    """Refuse a classifier that counts n-grams beside the transformer: left out, its answers would be others.

    Args:
        spec: of the classifier.
        target: form that is asked for, as `--to` names it.

    Raises:
        UserError: it does.
    """
    if spec.ngrams is not None:
        raise UserError(
            f"{target}: expected a transformer alone, but this classifier was trained with with_ngrams=true, and only "
            f"a bundle holds its n-grams. Export it with --to bundle, or train with with_ngrams=false."
        )
