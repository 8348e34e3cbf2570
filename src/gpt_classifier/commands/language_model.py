"""The language model of the `model` group, for the commands that use a model before any fine-tuning."""

from omegaconf import DictConfig

from gpt_classifier.errors import UserError, option_group
from gpt_classifier.inference.language_model import LanguageModel


def load_language_model(model: DictConfig, seed: int) -> LanguageModel:
    """What the `model` group of a composed configuration describes.

    Args:
        model: the group.
        seed: of random weights.

    Raises:
        UserError: the group describes no language model; or as `LanguageModel.load`.
    """
    from gpt_classifier.config import instantiate

    if not model.get("causal"):
        raise UserError(
            "model.causal: a language model predicts from earlier tokens alone. Leave it true, and choose a GPT-2, as "
            "encoders see the whole text."
        )
    config = instantiate(model.backbone)
    with option_group("model"):
        return LanguageModel.load(config, str(model.weights), model.hub, model.revision, model.tokenizer, seed)
