"""The zero-shot baseline."""

import pytest
import torch

from gpt_classifier.book.zero_shot import _literal, ask
from gpt_classifier.commands.zero_shot import main
from gpt_classifier.inference.language_model import LanguageModel
from gpt_classifier.models.generate import log_probability
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.tokenizers.byte_level import load_encoding


@pytest.fixture
def language_model() -> LanguageModel:
    model = GPT(GPTConfig(vocab_size=8192, n_positions=128, n_embd=24, n_layer=2, n_head=4)).initialise()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return LanguageModel(model.eval(), load_encoding("gpt2-nano"))


def test_answers_keep_the_order_of_the_texts_and_do_not_depend_on_batches(language_model: LanguageModel) -> None:
    texts = ["short", "a rather longer message than the others", "x", "free " * 60]
    together = ask(language_model, texts, "spam", batch_size=3)
    for text, answer in zip(texts, together, strict=True):
        (alone,) = ask(language_model, [text], "spam", batch_size=1)
        assert alone.continuation == answer.continuation
        assert alone.yes_margin == pytest.approx(answer.yes_margin, abs=1e-3)


def test_margin_is_the_difference_of_two_log_probabilities(language_model: LanguageModel) -> None:
    (answer,) = ask(language_model, ["hello"], "spam")
    question = "Message: hello\n\nQuestion: Is the message above spam? Answer with yes or no.\nAnswer:"
    prompt = language_model.encoding.encode_ordinary(question)
    ids = [language_model.encoding.encode_ordinary(word) for word in (" yes", " no")]
    yes, no = log_probability(language_model.model, [prompt] * 2, ids).tolist()
    assert answer.yes_margin == pytest.approx(yes - no, abs=1e-4)


@pytest.mark.parametrize(
    ("continuation", "literal"),
    [(" yes, it is", True), ("\nYes", True), (" No.", False), (" not sure", None), (" 'yes'", None), ("", None)],
)
def test_literal_answer_is_yes_or_no_at_the_beginning(continuation: str, literal: bool | None) -> None:
    assert _literal(continuation) is literal


def test_context_that_is_shorter_than_the_question_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"model\.backbone\.n_positions: expected more than \d+ tokens, but it is 8"):
        main(["--model", "gpt2-nano", "data=sample_sms", "model.weights=random", "model.backbone.n_positions=8"])
