"""What every backbone promises: a new one joins `BACKBONES`."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoders import ENCODERS, config_of
from torch import Tensor, nn

from gpt_classifier.encoders.backbones import Encoder, build
from gpt_classifier.families import config_from_state, empty_backbone
from gpt_classifier.models.backbone import Backbone, take
from gpt_classifier.models.gpt import GPT, GPTConfig


def gpt(causal: bool, dropout: float = 0.0) -> GPT:
    config = GPTConfig(vocab_size=50, n_positions=24, n_embd=24, n_layer=3, n_head=4, causal=causal, dropout=dropout)
    model = GPT(config).initialise()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def encoder(name: str) -> Encoder:
    model = build(config_of(name))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "gpt2": lambda: gpt(causal=True),
    "gpt2, not causal": lambda: gpt(causal=False),
    **{name: partial(encoder, name) for name in ENCODERS},
}

every_backbone = pytest.mark.parametrize("name", BACKBONES)


def batch(seed: int, T: int = 9) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(50, (3, T), generator=random), torch.tensor([T, 1, T // 2 + 1])


@every_backbone
def test_any_two_steps_through_the_blocks_are_the_whole(name: str) -> None:
    backbone = BACKBONES[name]()
    ids, lengths = batch(1)
    with torch.no_grad():
        embedded = backbone.embed(ids, lengths)
        whole = backbone.norm(backbone.blocks(embedded, lengths, 0, backbone.depth))
        assert embedded.shape == whole.shape == (3, 9, backbone.width)
        torch.testing.assert_close(backbone(ids, lengths), whole)
        for k in range(backbone.depth + 1):
            first = backbone.blocks(embedded, lengths, 0, k)
            second = backbone.norm(backbone.blocks(first, lengths, k, backbone.depth))
            torch.testing.assert_close(second, whole, atol=1e-5, rtol=1e-5)


@every_backbone
def test_one_position_alone_is_that_of_all(name: str) -> None:
    backbone = BACKBONES[name]()
    ids, lengths = batch(2)
    positions = torch.tensor([4, 0, 3])
    with torch.no_grad():
        x = backbone.embed(ids, lengths)
        everywhere = backbone.blocks(x, lengths, 0, backbone.depth)
        alone = backbone.blocks(x, lengths, 0, backbone.depth, positions)
        torch.testing.assert_close(alone, take(everywhere, positions), atol=1e-5, rtol=1e-5)
        until = backbone.depth - 1  # positions are for the last block only
        assert backbone.blocks(x, lengths, 0, until, positions).shape == x.shape


@every_backbone
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), padding=st.integers(0, 12), pad_id=st.integers(0, 49))
def test_visible_positions_do_not_depend_on_padding(name: str, seed: int, padding: int, pad_id: int) -> None:
    backbone = BACKBONES[name]()
    ids, lengths = batch(seed)
    real = torch.arange(9) < lengths[:, None]
    padded = torch.cat([torch.where(real, ids, pad_id), torch.full((3, padding), pad_id)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(padded, lengths)[:, :9][real], backbone(ids, lengths)[real], atol=1e-5, rtol=1e-5
        )


@every_backbone
def test_causal_is_whether_earlier_positions_ignore_later_ones(name: str) -> None:
    backbone = BACKBONES[name]()
    ids, _ = batch(3)
    lengths = torch.full((3,), 9)
    changed = ids.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 50
    with torch.no_grad():
        same = torch.allclose(backbone(ids, lengths)[:, :6], backbone(changed, lengths)[:, :6], atol=1e-6)
    assert same == backbone.causal


@every_backbone
def test_every_parameter_is_of_exactly_one_stage(name: str) -> None:
    backbone = BACKBONES[name]()
    staged = [id(p) for i in range(backbone.depth + 2) for p in backbone.stage(i)]
    assert len(staged) == len(set(staged))
    assert set(staged) == {id(p) for p in backbone.parameters()}


@every_backbone
def test_a_stage_has_the_parameters_that_its_computation_uses(name: str) -> None:
    backbone = BACKBONES[name]()
    ids, lengths = batch(4)
    x = backbone.embed(ids, lengths).detach().requires_grad_(True)
    for i in range(backbone.depth):
        y = backbone.blocks(x, lengths, i, i + 1)
        used = torch.autograd.grad((y * torch.randn_like(y)).sum(), list(backbone.stage(i + 1)), allow_unused=True)
        assert all(gradient is not None for gradient in used)
    everything = torch.autograd.grad(backbone.norm(x).square().sum(), list(backbone.parameters()), allow_unused=True)
    of_norm = {id(p) for p in backbone.stage(backbone.depth + 1)}
    assert {id(p) for p, g in zip(backbone.parameters(), everything, strict=True) if g is not None} == of_norm


@every_backbone
def test_linears_are_layers_of_blocks_in_equal_parts(name: str) -> None:
    backbone = BACKBONES[name]()
    in_blocks = {id(p) for i in range(1, backbone.depth + 1) for p in backbone.stage(i)}
    layers = list(backbone.linears())
    assert layers
    for layer in layers:
        assert isinstance(layer.linear, nn.Linear)
        assert id(layer.linear.weight) in in_blocks
        assert layer.linear.out_features % len(layer.parts) == 0
    names = [part for layer in layers for part in layer.parts]
    assert len(names) == backbone.depth * len(set(names))


@every_backbone
def test_state_and_weights_are_all_of_it(name: str) -> None:
    backbone = BACKBONES[name]()
    config = config_from_state(backbone.state())
    again = empty_backbone(config)
    assert all(p.is_meta for p in again.parameters())
    again.load_state_dict(backbone.state_dict(), assign=True)
    assert (again.width, again.context, again.depth) == (backbone.width, backbone.context, backbone.depth)
    assert (again.vocab_size, again.causal) == (backbone.vocab_size, backbone.causal)
    ids, lengths = batch(5)
    with torch.no_grad():
        assert torch.equal(again.eval()(ids, lengths), backbone(ids, lengths))


@every_backbone
def test_attention_weights_sum_to_one_over_visible_tokens(name: str) -> None:
    backbone = BACKBONES[name]()
    ids, lengths = batch(6)
    with torch.no_grad():
        weights = backbone.attention(ids, lengths)
    assert weights.shape[:2] == (backbone.depth, 3)
    assert weights.shape[-2:] == (9, 9)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    assert weights[:, 1, :, 0, 1:].abs().max() == 0  # the row of one visible token
    if backbone.causal:
        assert weights.triu(diagonal=1).abs().max() == 0


def test_dropout_is_said_and_acts_in_training_only() -> None:
    backbone = gpt(causal=True, dropout=0.5)
    ids, lengths = batch(7)
    assert backbone.dropout == 0.5
    assert torch.equal(backbone(ids, lengths), backbone(ids, lengths))
    backbone.train()
    assert not torch.equal(backbone(ids, lengths), backbone(ids, lengths))


def test_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown family"):
        config_from_state({"family": "rnn"})
