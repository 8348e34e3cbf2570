"""The classifier: what it reads, what it ignores, what it trains."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_classifier.errors import UserError
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import train_everything, train_head_only, train_last_blocks
from gpt_classifier.models.gpt import GPT, Attention, GPTConfig
from gpt_classifier.models.pooling import POOLINGS

CONFIG = GPTConfig(vocab_size=50, n_positions=40, n_embd=24, n_layer=3, n_head=4)
MESSAGE = [7, 3, 11, 2, 45]


def classifier(pooling: str, num_classes: int = 3, config: GPTConfig = CONFIG) -> Classifier:
    return Classifier(GPT(config).initialise(), POOLINGS[pooling](), num_classes).eval()


def padded(length: int, pad_id: int = 49) -> tuple[Tensor, Tensor]:
    return torch.tensor([MESSAGE + [pad_id] * (length - len(MESSAGE))]), torch.tensor([len(MESSAGE)])


@pytest.mark.parametrize("pooling", ["last_token", "first_token", "mean", "max"])
def test_prediction_does_not_depend_on_padding(pooling: str) -> None:
    model = classifier(pooling)
    with torch.no_grad():
        alone = model(*padded(len(MESSAGE)))
        for length in (6, 20, 40):
            for pad_id in (0, 49):
                torch.testing.assert_close(model(*padded(length, pad_id)), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["padded_last_token", "padded_mean"])
def test_padded_poolings_do_depend_on_padding_and_say_so(pooling: str) -> None:
    model = classifier(pooling)
    with torch.no_grad():
        assert not torch.allclose(model(*padded(40)), model(*padded(5)), atol=1e-4)
    assert model.pooling.reads_padding


def test_poolings_read_the_positions_that_they_name() -> None:
    hidden = torch.arange(2 * 4, dtype=torch.float32).view(2, 4, 1)  # row 0: 0 1 2 3, row 1: 4 5 6 7
    lengths = torch.tensor([2, 4])
    read = {name: pooling()(hidden, lengths).flatten().tolist() for name, pooling in POOLINGS.items()}
    assert read == {
        "last_token": [1, 7],
        "first_token": [0, 4],
        "mean": [0.5, 5.5],
        "max": [1, 7],
        "padded_last_token": [3, 7],
        "padded_mean": [1.5, 5.5],
        "windows": [1, 7],
    }


def test_earlier_positions_do_not_see_later_ones() -> None:
    backbone = GPT(CONFIG).initialise().eval()
    ids = torch.randint(50, (2, 10))
    changed = ids.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 50
    with torch.no_grad():
        torch.testing.assert_close(backbone.hidden(ids)[:, :6], backbone.hidden(changed)[:, :6])


def test_logits_are_float32_under_autocast() -> None:
    model = classifier("last_token")
    with torch.autocast("cpu", torch.bfloat16):
        assert model(*padded(8)).dtype == torch.float32


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        (train_head_only, {"head"}),
        (lambda model: train_last_blocks(model, 1), {"h.2", "ln_f", "head"}),
        (lambda model: train_last_blocks(model, 3), {"h.0", "h.1", "h.2", "ln_f", "head"}),
        (train_everything, {"wte", "wpe", "h.0", "h.1", "h.2", "ln_f", "head"}),
    ],
)
def test_freezing_trains_what_it_names(freeze: object, trained: set[str]) -> None:
    model = classifier("last_token")
    freeze(model)  # type: ignore[operator]
    names = {name.removeprefix("backbone.") for name, p in model.named_parameters() if p.requires_grad}
    assert {".".join(name.split(".")[: 2 if name.startswith("h.") else 1]) for name in names} == trained


def test_last_block_of_gpt2_small_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Classifier(GPT(GPTConfig()), POOLINGS["last_token"](), num_outputs=2)
    train_last_blocks(model, 1)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 7_090_946


@pytest.mark.parametrize("n", [0, 4, -1])
def test_impossible_numbers_of_blocks_are_refused(n: int) -> None:
    with pytest.raises(UserError, match="n: expected 1 to 3"):
        train_last_blocks(classifier("last_token"), n)


def test_dropout_acts_in_training_only() -> None:
    config = GPTConfig(vocab_size=50, n_positions=40, n_embd=24, n_layer=3, n_head=4, dropout=0.5)
    model = classifier("last_token", config=config)
    inputs = padded(8)
    assert torch.equal(model(*inputs), model(*inputs))
    model.train()
    assert not torch.equal(model(*inputs), model(*inputs))


def test_attention_at_one_position_drops_what_attention_everywhere_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = Attention(GPTConfig(n_embd=24, n_layer=1, n_head=3, dropout=0.5)).double()
    x, positions = torch.randn(2, 7, 24).double(), torch.tensor([3, 6])
    mask = (torch.rand(2, 3, 7) > 0.5).double() * 2  # of the weights of one query in each row
    monkeypatch.setattr(F, "dropout", lambda weights, p: weights * mask)
    found = attention(x, positions)

    q, k, v = (part.view(2, 7, 3, 8).transpose(1, 2) for part in attention.c_attn(x).chunk(3, dim=2))
    q = q[torch.arange(2), :, positions][:, :, None]
    scores = (q @ k.transpose(2, 3)).squeeze(2) / 8**0.5
    unseen = torch.arange(7) > positions[:, None]
    weights = scores.masked_fill(unseen[:, None], -torch.inf).softmax(dim=-1) * mask
    expected = attention.c_proj((weights[:, :, None] @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, expected)
