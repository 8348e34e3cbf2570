"""What every pooling promises, those of a user's own included."""

import pytest
import torch
from torch import Tensor, nn

from gpt_classifier.errors import UserError
from gpt_classifier.models.pooling import POOLINGS, Pooling, find_pooling


class Attentive(Pooling):
    """A learned query over real tokens: what a user might write."""

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.arguments = {"width": width, "scale": scale}

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        scores = (hidden @ self.query * self.arguments["scale"]).masked_fill(~real, -torch.inf)
        # padding may hold anything, even nan
        return torch.einsum("bt,btd->bd", scores.softmax(dim=-1), torch.where(real[:, :, None], hidden, 0.0))

    def state(self) -> dict[str, object]:
        return self.arguments


ALL: dict[str, Pooling] = {name: pooling() for name, pooling in POOLINGS.items()} | {"own": Attentive(8)}

every_pooling = pytest.mark.parametrize("name", ALL)


@every_pooling
def test_padding_matters_only_where_it_is_said(name: str) -> None:
    pooling = ALL[name]
    hidden, lengths = torch.randn(3, 5, 8), torch.tensor([5, 2, 3])
    real = (torch.arange(5) < lengths[:, None])[:, :, None]
    pooled = pooling(hidden, lengths)
    assert pooled.shape == (3, 8)
    changed = pooling(torch.where(real, hidden, 7.0), lengths)
    assert torch.equal(pooled, changed) != pooling.reads_padding


@every_pooling
def test_running_is_what_would_be_pooled_of_the_text_so_far(name: str) -> None:
    pooling = ALL[name]
    hidden = torch.randn(2, 6, 8)
    if not pooling.has_trace:
        with pytest.raises(UserError, match="can't be evaluated after each token"):
            pooling.running(hidden)
        return
    running = pooling.running(hidden)
    for t in range(6):
        expected = pooling(hidden[:, : t + 1], torch.full((2,), t + 1))
        torch.testing.assert_close(running[:, t], expected)


@every_pooling
def test_a_position_is_what_is_pooled(name: str) -> None:
    pooling = ALL[name]
    hidden, lengths = torch.randn(3, 5, 8), torch.tensor([5, 2, 3])
    positions = pooling.positions(lengths, 5)
    if positions is not None:
        assert torch.equal(pooling(hidden, lengths), hidden[torch.arange(3), positions])


@every_pooling
def test_name_and_state_make_it_again(name: str) -> None:
    pooling = ALL[name]
    again = find_pooling(pooling.name())(**pooling.state())
    again.load_state_dict(pooling.state_dict())
    hidden, lengths = torch.randn(2, 4, 8), torch.tensor([4, 1])
    assert torch.equal(again(hidden, lengths), pooling(hidden, lengths))


def test_names_are_those_of_configs() -> None:
    assert [pooling.name() for pooling in POOLINGS.values()] == list(POOLINGS)


def test_what_is_pooled_in_a_way_of_its_own_is_not_cached() -> None:
    assert not Attentive(8).fixed
    assert all(pooling().fixed for pooling in POOLINGS.values())


@pytest.mark.parametrize("name", ["os.system", "nowhere.Pooling", "gpt_classifier.models.pooling.Pooling.forward"])
def test_a_name_is_never_imported(name: str) -> None:
    with pytest.raises(UserError, match=r"import \S+ first"):
        find_pooling(name)


def test_a_pooling_without_forward_says_so() -> None:
    class Empty(Pooling):
        pass

    with pytest.raises(TypeError, match="defines no forward"):
        Empty()(torch.zeros(1, 1, 1), torch.ones(1))
