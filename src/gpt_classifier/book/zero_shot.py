"""The backbone before any fine-tuning, as what it was pretrained to be: a language model."""

from collections.abc import Sequence
from dataclasses import dataclass

import tiktoken
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from gpt_classifier.data.tokenizers import expect_vocabulary, load_encoding, token_ids
from gpt_classifier.device import best_device
from gpt_classifier.errors import UserError
from gpt_classifier.models.generate import generate, log_probability
from gpt_classifier.models.gpt import GPT
from gpt_classifier.models.weights import load_backbone, locate_weights

ANSWERS = (" yes", " no")


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
    def from_config(cls, model: DictConfig, seed: int) -> "LanguageModel":
        """What the `model` group of a composed configuration describes; `seed` draws random weights."""
        if not model.causal:
            raise UserError("model.causal: a language model predicts from earlier tokens alone. Leave it true.")
        expect_vocabulary(model.tokenizer, model.backbone.vocab_size, str(model.weights))
        torch.manual_seed(seed)
        backbone, _ = load_backbone(instantiate(model.backbone), locate_weights(model.weights, model.hub))
        return cls(backbone.requires_grad_(False).eval().to(best_device()), load_encoding(model.tokenizer))

    def encode(self, text: str, room: int) -> list[int]:
        """Token ids of a text, its end cut off where fewer than `room` positions of the context would be left."""
        context = self.model.config.n_positions
        if room >= context:
            raise UserError(f"model.backbone.n_positions: expected more than {room} tokens, but it is {context}.")
        return token_ids([text], self.encoding)[0][: context - room]

    def decode(self, ids: list[int]) -> str:
        known = [i for i in ids if i < self.encoding.n_vocab]  # embeddings may outnumber the vocabulary
        return self.encoding.decode(known)


@dataclass(frozen=True)
class ZeroShotAnswer:
    """What the un-tuned model says of one message.

    Args:
        continuation: its greedy text after the question.
        literal: whether that begins with yes (`True`) or no (`False`); `None` for anything else.
        yes_margin: log-probability of " yes" less that of " no".
    """

    continuation: str
    literal: bool | None
    yes_margin: float


def ask(
    language_model: LanguageModel,
    texts: Sequence[str],
    positive_class: str,
    batch_size: int = 8,
    words: int = 6,
) -> list[ZeroShotAnswer]:
    """Ask whether each text is of a class.

    Args:
        language_model: a language model that was not fine-tuned.
        texts: messages.
        positive_class: name of the class, such as `spam`.
        batch_size: messages computed at a time.
        words: tokens of the continuation.
    """
    model, encoding = language_model.model, language_model.encoding
    question = encoding.encode_ordinary(
        f"\n\nQuestion: Is the message above {positive_class}? Answer with yes or no.\nAnswer:"
    )
    answer_ids = [encoding.encode_ordinary(answer) for answer in ANSWERS]
    room = len(question) + max(words, *map(len, answer_ids))
    prompts = [language_model.encode(f"Message: {text}", room) + question for text in texts]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, ZeroShotAnswer] = {}
    for start in range(0, len(prompts), batch_size):
        chosen = by_length[start : start + batch_size]
        batch = [prompts[i] for i in chosen]
        yes, no = (log_probability(model, batch, [ids] * len(batch)) for ids in answer_ids)
        continuations = generate(model, batch, words, stop_id=encoding.eot_token)
        for i, ids, margin in zip(chosen, continuations, (yes - no).tolist(), strict=True):
            continuation = language_model.decode(ids)
            answers[i] = ZeroShotAnswer(continuation, _literal(continuation), margin)
    return [answers[i] for i in range(len(texts))]


def _literal(continuation: str) -> bool | None:
    word = continuation.strip().casefold()
    if word.startswith("yes"):
        return True
    return False if word.startswith("no") and not word.startswith("not") else None
