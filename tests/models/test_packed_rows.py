"""Rows that are packed give what they give padded, and nothing is computed of most of their padding."""

import pytest
import torch
from torch import Tensor, nn

from gpt_classifier.models.backbone import take
from gpt_classifier.models.gpt import GPT, GPTConfig

LENGTHS = torch.tensor([3, 90, 17, 1, 16, 48, 33, 3, 100])  # in no order, some alike, up to the whole row
T = 100


def backbones(causal: bool) -> tuple[GPT, GPT]:
    """One that packs rows, and the same that does not."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(GPT(GPTConfig(50, T, n_embd=24, n_layer=3, n_head=4, causal=causal)).eval())
        for parameter in made[-1].parameters():
            nn.init.normal_(parameter, std=0.2)
    assert made[0].skip_padding()
    return made[0], made[1]


def embedded(backbone: GPT) -> Tensor:
    return backbone.embed(torch.randint(50, (len(LENGTHS), T), generator=torch.Generator().manual_seed(1)), LENGTHS)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_packed_rows_give_what_padded_ones_give(causal: bool) -> None:
    packed, padded = backbones(causal)
    x = embedded(padded)
    seen = torch.arange(T) < LENGTHS[:, None]
    for start, stop in ((0, 3), (1, 2), (2, 2)):
        found, expected = (backbone.blocks(x, LENGTHS, start, stop) for backbone in (packed, padded))
        torch.testing.assert_close(found[seen], expected[seen], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_one_position_of_each_packed_row_is_that_of_all(causal: bool) -> None:
    packed, padded = backbones(causal)
    x = embedded(padded)
    positions = LENGTHS // 2
    found = packed.blocks(x, LENGTHS, 0, 3, positions)
    torch.testing.assert_close(found, take(padded.blocks(x, LENGTHS, 0, 3), positions), atol=1e-5, rtol=1e-5)
    assert packed.blocks(x, LENGTHS, 0, 2, positions).shape == x.shape


@torch.no_grad()
def test_padding_of_packed_rows_is_left_out() -> None:
    packed, padded = backbones(causal=True)
    computed: list[int] = []
    for backbone in (packed, padded):
        backbone.h[0].mlp.c_fc.register_forward_hook(lambda _, given, __: computed.append(given[0][..., 0].numel()))
        backbone.blocks(embedded(backbone), LENGTHS, 0, 3)
    in_sixteens = 16 + 96 + 32 + 16 + 16 + 48 + 48 + 16 + 100
    assert in_sixteens <= computed[0] <= in_sixteens * 9 / 8
    assert computed[1] == len(LENGTHS) * T
