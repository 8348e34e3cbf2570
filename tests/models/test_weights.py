"""Weights that transformers wrote must mean the same here."""

from pathlib import Path

import pytest
import torch
from conftest import book_state
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from gpt_classifier.errors import UserError
from gpt_classifier.models.gpt import GPTConfig
from gpt_classifier.models.pooling import LastToken
from gpt_classifier.models.weights import TRANSPOSED, load_backbone, load_classifier, locate_weights

SHAPES = [
    GPTConfig(vocab_size=97, n_positions=32, n_embd=24, n_layer=3, n_head=4),
    GPTConfig(vocab_size=31, n_positions=16, n_embd=40, n_layer=2, n_head=2),
]


def reference(config: GPTConfig) -> GPT2LMHeadModel:
    """A randomly made GPT-2 in which no bias or scale is at its default."""
    sizes = {name: getattr(config, name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")}
    model = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def as_released(model: GPT2LMHeadModel, path: Path, prefix: str, buffers: bool) -> Path:
    model.save_pretrained(path)
    tensors = load_file(path / "model.safetensors")
    tensors = {prefix + name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    if buffers:
        n = model.config.n_positions
        for layer in range(model.config.n_layer):
            tensors[f"{prefix}h.{layer}.attn.bias"] = torch.tril(torch.ones(n, n)).view(1, 1, n, n)
            tensors[f"{prefix}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.mark.parametrize("config", SHAPES, ids=["24x3", "40x2"])
@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("buffers", [False, True])
def test_logits_and_hidden_states_equal_those_of_transformers(
    config: GPTConfig, prefix: str, buffers: bool, tmp_path: Path
) -> None:
    theirs = reference(config)
    folder = as_released(theirs, tmp_path, prefix, buffers)
    ids = torch.randint(config.vocab_size, (3, config.n_positions))
    with torch.no_grad():
        expected = theirs(ids, output_hidden_states=True)
    for path in (folder, folder / "model.safetensors"):
        ours, head = load_backbone(config, path)
        assert head == {}
        with torch.no_grad():
            hidden = ours.eval()(ids)
        assert hidden.dtype == torch.float32
        torch.testing.assert_close(hidden, expected.hidden_states[-1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.next_token_logits(hidden), expected.logits, atol=1e-5, rtol=1e-5)


def test_sharded_folder_loads(tmp_path: Path) -> None:
    theirs = reference(SHAPES[0])
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    ours, _ = load_backbone(SHAPES[0], tmp_path)
    torch.testing.assert_close(ours.wte.weight, theirs.transformer.wte.weight)
    torch.testing.assert_close(ours.h[2].mlp.c_fc.weight, theirs.transformer.h[2].mlp.c_fc.weight.t())


def in_our_layout(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    state = model.transformer.state_dict()
    return {name: tensor.t() if name.endswith(TRANSPOSED) else tensor for name, tensor in state.items()}


def test_state_dict_in_the_books_naming_loads(tmp_path: Path) -> None:
    theirs = reference(SHAPES[0])
    torch.save(book_state(in_our_layout(theirs), {"weight": theirs.lm_head.weight.detach()}), tmp_path / "gpt.pth")
    ours, head = load_backbone(SHAPES[0], tmp_path / "gpt.pth")
    ids = torch.randint(97, (2, 20))
    with torch.no_grad():
        expected = theirs(ids).logits
        found = ours.next_token_logits(ours(ids))
    assert head == {}
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_fine_tuned_book_classifier_brings_its_head(tmp_path: Path) -> None:
    theirs, out_head = reference(SHAPES[0]), {"weight": torch.randn(2, 24), "bias": torch.randn(2)}
    path = tmp_path / "review_classifier.pth"
    torch.save(book_state(in_our_layout(theirs), out_head), path)
    model = load_classifier(SHAPES[0], path, LastToken(), num_classes=2)
    ids, lengths = torch.randint(97, (2, 20)), torch.tensor([20, 7])
    with torch.no_grad():
        hidden = theirs.transformer(ids).last_hidden_state[[0, 1], [19, 6]]
        expected = hidden @ out_head["weight"].t() + out_head["bias"]
        torch.testing.assert_close(model(ids, lengths), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="fine-tuned for 2 classes, but the data has 5"):
        load_classifier(SHAPES[0], path, LastToken(), num_classes=5)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    reference(SHAPES[0]).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"another size.*\(97, 24\) where \(31, 40\)"):
        load_backbone(SHAPES[1], tmp_path)


def test_weights_with_too_few_layers_are_refused(tmp_path: Path) -> None:
    reference(SHAPES[0]).save_pretrained(tmp_path)
    deeper = GPTConfig(vocab_size=97, n_positions=32, n_embd=24, n_layer=4, n_head=4)
    with pytest.raises(UserError, match="12 are missing"):
        load_backbone(deeper, tmp_path)


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_truncated_safetensors_file_is_refused(tmp_path: Path, kept: int) -> None:
    reference(SHAPES[0]).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="truncated"):
        load_backbone(SHAPES[0], path)


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_truncated_state_dict_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "gpt.pth"
    torch.save(book_state(in_our_layout(reference(SHAPES[0])), {}), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="truncated"):
        load_backbone(SHAPES[0], path)


class Malicious:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_pickled_code_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"tok_emb.weight": Malicious()}, tmp_path / "gpt.pth")
    with pytest.raises(UserError, match="state dict of tensors"):
        load_backbone(SHAPES[0], tmp_path / "gpt.pth")
    assert not Path("executed").exists()


def test_missing_path_and_missing_network_are_told() -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        locate_weights("nowhere")
    with pytest.raises(UserError, match="experiment=quickstart needs no network"):
        locate_weights("pretrained", "openai-community/gpt2")
    with pytest.raises(UserError, match="no released weights"):
        locate_weights("pretrained", None)
