"""The backbone before any fine-tuning: a language model with its vocabulary."""

from dataclasses import dataclass

import tiktoken
import torch

from gpt_classifier.device import best_device
from gpt_classifier.errors import OptionError
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.weights import load_backbone, locate_weights
from gpt_classifier.tokenizers import expect_vocabulary
from gpt_classifier.tokenizers.byte_level import TiktokenTokenizer, load_encoding, token_ids


@dataclass(frozen=True)
class LanguageModel:
    """A GPT with its vocabulary.

    Args:
        model: in eval mode.
        encoding: its vocabulary.
    """

    model: GPT
    encoding: tiktoken.Encoding

    @classmethod
    def load(
        cls, config: GPTConfig, weights: str, hub: str | None, revision: str | None, tokenizer: str, seed: int
    ) -> "LanguageModel":
        """A pretrained (or random) GPT on the best device.

        Args:
            config: sizes of the model.
            weights: `pretrained`, `random` or a path, as `gpt_classifier.models.weights.locate_weights`.
            hub: what `pretrained` means, as there.
            revision: of the repository, as there.
            tokenizer: the vocabulary, as `gpt_classifier.tokenizers.byte_level.load_encoding`.
            seed: of random weights.

        Raises:
            UserError: weights or vocabulary that are missing, damaged or do not fit each other.
        """
        encoding = load_encoding(tokenizer)
        expect_vocabulary(TiktokenTokenizer(encoding), tokenizer, config.vocab_size, weights)
        torch.manual_seed(seed)
        model, _ = load_backbone(config, locate_weights(weights, hub, revision))
        return cls(model.requires_grad_(False).eval().to(best_device()), encoding)

    def encode(self, text: str, reserved: int) -> list[int]:
        """Token ids of a text, cut at its end so that some positions of the context stay free.

        Args:
            text: any text.
            reserved: number of positions that stay free, fewer than the context has.

        Raises:
            OptionError: the context is too short.
        """
        context = self.model.config.n_positions
        if reserved >= context:
            raise OptionError("n_positions", f"more than {reserved} tokens", context)
        return token_ids([text], self.encoding)[0][: context - reserved]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; ids that the vocabulary lacks are left out."""
        known = [i for i in ids if i < self.encoding.n_vocab]  # embeddings may outnumber the vocabulary
        return self.encoding.decode(known)
