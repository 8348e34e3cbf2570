"""A language model and its vocabulary, loaded from plain parts."""

import pytest
import torch

from gpt_classifier.commands.language_model import load_language_model
from gpt_classifier.config import compose
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.inference.language_model import LanguageModel
from gpt_classifier.models.gpt import GPTConfig

CONFIG = GPTConfig(vocab_size=8200, n_positions=16, n_embd=24, n_layer=1, n_head=4)


def random_model(seed: int = 1) -> LanguageModel:
    return LanguageModel.load(CONFIG, "random", None, None, "gpt2-nano", seed)


def test_random_weights_repeat_with_the_seed() -> None:
    first, same, other = (random_model(seed).model.wte.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_text_is_cut_so_that_positions_stay_free() -> None:
    model = random_model()
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    whole = model.encoding.encode(long)
    assert len(whole) > 16
    assert model.encode(long, reserved=6) == whole[:10]
    assert model.encode("one", reserved=15) == model.encoding.encode("one")[:1]
    with pytest.raises(OptionError, match="n_positions: expected more than 16 tokens, but it is 16"):
        model.encode(long, reserved=16)


def test_ids_without_a_token_are_left_out_of_the_text() -> None:
    model = random_model()
    ids = model.encoding.encode("hello")
    assert model.decode([*ids, 8199]) == "hello"


def test_vocabulary_must_fit_the_embeddings() -> None:
    small = GPTConfig(vocab_size=100, n_positions=16, n_embd=24, n_layer=1, n_head=4)
    with pytest.raises(UserError, match="embeddings, but it is gpt2-nano with 8192 tokens"):
        LanguageModel.load(small, "random", None, None, "gpt2-nano", 1)


def test_the_model_group_describes_the_bundled_model() -> None:
    group = compose(["model=gpt2-nano"]).model
    model = load_language_model(group, seed=1)
    assert model.model.config.n_embd == 192
    assert model.decode(model.encode(" the cat", reserved=0)) == " the cat"
    group.causal = False
    with pytest.raises(UserError, match=r"model\.causal"):
        load_language_model(group, seed=1)
