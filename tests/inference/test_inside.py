"""One pass through a message against one pass for each part of it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import Run

from gpt_classifier.errors import UserError
from gpt_classifier.inference import inside
from gpt_classifier.inference.predictor import Predictor

TEXT = "You have WON 1000 prizes 😀 call now"


@pytest.mark.parametrize("pooling", ["last_token", "mean"])
def test_probability_after_each_token_is_that_of_the_text_so_far(train: Callable[..., Run], pooling: str) -> None:
    run = train(f"pooling={pooling}", "optimizer.lr=1e-2")
    predictor = Predictor.open(run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    predictor.temperature = 1.7
    traced = inside.trace(predictor, TEXT)
    assert "".join(traced.tokens) == TEXT
    row = torch.from_numpy(predictor.token_rows([TEXT])[0])
    for i in range(len(row)):
        with torch.no_grad():
            logits = predictor.model(row[None, : i + 1], torch.tensor([i + 1]))
        np.testing.assert_allclose(traced.probabilities[i], (logits / 1.7).softmax(dim=-1)[0], atol=1e-5)
    np.testing.assert_allclose(traced.probabilities[-1], predictor.predict_proba([TEXT])[0], atol=1e-5)


@pytest.mark.parametrize("inner", ["last_token", "max"])
def test_a_text_in_windows_is_traced_without_repeats(train: Callable[..., Run], inner: str) -> None:
    run = train("pooling=windows", f"pooling.inner={inner}", "pooling.size=6", "pooling.overlap=2")
    predictor = Predictor.open(run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    assert len(predictor.token_rows([TEXT])[0]) > 12
    traced = inside.trace(predictor, TEXT)
    assert "".join(traced.tokens) == TEXT
    for n in (2, 8, 9, len(traced.tokens)):  # of one window, of two, and of all
        so_far = "".join(traced.tokens[:n])
        expected = predictor.predict_proba([so_far])[0]
        np.testing.assert_allclose(traced.probabilities[n - 1], expected, atol=1e-5)
    assert inside.attention(predictor, TEXT)[1].shape[-1] == 6


def test_attention_is_what_the_model_computes(short_run: Run) -> None:
    predictor = Predictor.open(short_run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    tokens, weights = inside.attention(predictor, TEXT)
    T = len(tokens)
    assert weights.shape == (2, 6, T, T)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 6, T))
    assert weights.triu(diagonal=1).abs().max() == 0
    block, backbone = predictor.model.backbone.h[0], predictor.model.backbone
    with torch.no_grad():
        x = block.ln_1(backbone.embed(torch.from_numpy(predictor.token_rows([TEXT])[0])[None], torch.tensor([T])))
        values = block.attn.c_attn(x).chunk(3, dim=2)[2].view(T, 6, -1).transpose(0, 1)
        mixed = (weights[0] @ values).transpose(0, 1).flatten(1)
        torch.testing.assert_close(block.attn.c_proj(mixed)[None], block.attn(x), atol=1e-5, rtol=1e-4)
    assert inside.attention(predictor, TEXT, most_tokens=3)[1].shape == (2, 6, 3, 3)


def test_a_text_that_is_cut_within_a_character_has_its_pieces(short_run: Run) -> None:
    predictor = Predictor.open(short_run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    row = predictor.token_rows(["a 😀"])[0]
    assert "".join(predictor.tokenizer.pieces(row)) == "a 😀"
    assert "".join(predictor.tokenizer.pieces(row[:-1])) == "a �"
    assert predictor.tokenizer.pieces(row[-1:]) == ["�"]
    tokens, weights = inside.attention(predictor, "a 😀", most_tokens=len(row) - 1)
    assert len(tokens) == weights.shape[-1] == len(row) - 1


@pytest.mark.parametrize("overrides", [["model.causal=false"], ["pooling=first_token"]])
def test_what_does_not_read_on_has_no_trace(train: Callable[..., Run], overrides: list[str]) -> None:
    run = train("trainer.max_epochs=1", *overrides)
    predictor = Predictor.open(run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    with pytest.raises(UserError, match="no probability after each token"):
        inside.trace(predictor, TEXT)
    _, weights = inside.attention(predictor, TEXT)
    assert (weights[..., 0, -1] > 0).all() == ("model.causal=false" in overrides)
