"""The book's baseline: a language model is asked for the class of a message, without any fine-tuning."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt_classifier.inference.language_model import LanguageModel
from gpt_classifier.models.generate import generate, log_probability

ANSWERS = (" yes", " no")


@dataclass(frozen=True)
class ZeroShotAnswer:
    """The answer for one message.

    Args:
        continuation: the text that the model generates greedily after the question.
        literal: `True` if the continuation begins with yes, `False` if it begins with no, otherwise `None`.
        yes_margin: log-probability of " yes" minus that of " no", in nats.
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
    """Ask for each text whether it belongs to a class.

    Args:
        language_model: a language model that was not fine-tuned.
        texts: messages; longer ones than fit into the context are cut at their end.
        positive_class: name of the class, such as `spam`.
        batch_size: messages per batch.
        words: length of the continuation in tokens.

    Returns:
        An answer for each text, in the order of the texts.

    Raises:
        OptionError: the model's context is too short for the question.
    """
    model, encoding = language_model.model, language_model.encoding
    question = encoding.encode_ordinary(
        f"\n\nQuestion: Is the message above {positive_class}? Answer with yes or no.\nAnswer:"
    )
    answer_ids = [encoding.encode_ordinary(answer) for answer in ANSWERS]
    reserved = len(question) + max(words, *map(len, answer_ids))
    prompts = [language_model.encode(f"Message: {text}", reserved) + question for text in texts]
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
