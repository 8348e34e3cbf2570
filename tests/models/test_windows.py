"""Long texts in windows: each as if it were alone, and a text of one window as without."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gpt_classifier.data.batching import pad
from gpt_classifier.errors import OptionError
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import IN_WINDOWS, POOLINGS, Windowed
from gpt_classifier.tokenizers.cutting import Windows, cut_rows

SIZE, OVERLAP = 8, 3

every_inner = pytest.mark.parametrize("inner", IN_WINDOWS)


def classifier(inner: str, causal: bool = True) -> Classifier:
    config = GPTConfig(vocab_size=50, n_positions=SIZE, n_embd=24, n_layer=3, n_head=4, causal=causal)
    model = Classifier(GPT(config).initialise(), Windowed(inner, SIZE, OVERLAP), 3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def texts(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(1, 50, n, dtype=np.int32) for n in lengths]


def rows_of(whole: list[np.ndarray]) -> list[np.ndarray]:
    return cut_rows(whole, 1000, "head", Windows(SIZE, OVERLAP))[0]


def batch(rows: list[np.ndarray], beyond: int = 0) -> tuple[Tensor, Tensor]:
    return pad(rows, max(map(len, rows)) + beyond, 49)


def pooled_by_hand(model: Classifier, row: np.ndarray) -> Tensor:
    """The reference: each window computed alone, without padding."""
    inner = model.pooling.per_window
    found = []
    for start in range(0, len(row), SIZE):
        ids = torch.from_numpy(row[start : start + SIZE])[None]
        found.append(model.backbone(ids, torch.tensor([ids.shape[1]])))
    whole = torch.cat(found, dim=1)
    if inner.name() in ("max", "mean"):
        return inner(whole, torch.tensor([len(row)]))[0]
    return torch.stack([inner(one, torch.tensor([one.shape[1]]))[0] for one in found]).mean(dim=0)


@every_inner
@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_windows_of_a_long_text_are_as_if_each_were_alone(inner: str, causal: bool) -> None:
    model = classifier(inner, causal)
    rows = rows_of(texts(1, 8, 9, 13, 30, 5))
    for beyond in (0, 1, 9):  # padding, whole windows of it among it
        found = model(*batch(rows, beyond))
        for row, logits in zip(rows, found, strict=True):
            torch.testing.assert_close(logits, model.head(pooled_by_hand(model, row)), atol=1e-5, rtol=1e-4)


@every_inner
@torch.no_grad()
def test_a_text_of_one_window_is_what_its_pooling_makes_of_it(inner: str) -> None:
    model = classifier(inner)
    plain = Classifier(model.backbone, POOLINGS[inner](), 3).eval()
    plain.head = model.head
    whole = texts(1, 3, 8)
    rows = rows_of(whole)
    assert [row.tolist() for row in rows] == [row.tolist() for row in whole]
    assert torch.equal(model(*batch(rows)), plain(*batch(whole)))


@every_inner
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
@torch.no_grad()
def test_it_can_stop_and_go_on_at_every_depth(inner: str, depth: int) -> None:
    model = classifier(inner)
    ids, lengths = batch(rows_of(texts(4, 21, 9)))
    kept = model.prefix(ids, lengths, depth)
    assert kept.shape == ((3, 24) if depth == 4 else (*ids.shape, 24))
    if depth < 4:
        kept[torch.arange(ids.shape[1]) >= lengths[:, None]] = 7.0  # nothing at padding may matter
    torch.testing.assert_close(model.suffix(kept, lengths, depth, ids), model(ids, lengths), atol=1e-5, rtol=1e-4)


@every_inner
def test_gradients_are_those_of_windows_that_are_alone(inner: str) -> None:
    model = classifier(inner)
    rows = rows_of(texts(20, 6))
    model(*batch(rows)).square().sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    torch.stack([model.head(pooled_by_hand(model, row)) for row in rows]).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("inner", [name for name in IN_WINDOWS if Windowed(name).has_trace])
@torch.no_grad()
def test_after_each_token_it_is_what_the_row_so_far_would_be(inner: str) -> None:
    model = classifier(inner)
    (row,) = rows_of(texts(22))
    ids, lengths = batch([row])
    running = model.pooling.running(model.hidden(ids, lengths))[0]
    for t in range(len(row)):
        torch.testing.assert_close(running[t], pooled_by_hand(model, row[: t + 1]), atol=1e-5, rtol=1e-4)


def test_sizes_follow_from_the_context() -> None:
    assert Windowed().within(1024).state() == {"inner": "max", "size": 1024, "overlap": 256}
    assert Windowed("mean", 100).within(1024).state() == {"inner": "mean", "size": 100, "overlap": 25}
    assert Windowed("mean", 100, 0).within(1024).state() == {"inner": "mean", "size": 100, "overlap": 0}
    with pytest.raises(OptionError, match="size: expected a whole number from 1 to 64, but it is 100"):
        Windowed(size=100).within(64)
    with pytest.raises(OptionError, match="overlap: expected 0 to 63"):
        Windowed(overlap=64).within(64)


@pytest.mark.parametrize("inner", ["padded_mean", "padded_last_token", "windows", "median"])
def test_what_reads_padding_or_is_no_pooling_reads_no_windows(inner: str) -> None:
    with pytest.raises(OptionError, match="inner: expected last_token, first_token, mean or max"):
        Windowed(inner)
