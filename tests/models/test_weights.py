"""Weights that transformers wrote must mean the same here."""

import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, book_state
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.families import load_classifier
from gpt_classifier.models.gpt import GPTConfig
from gpt_classifier.models.pooling import LastToken
from gpt_classifier.models.weights import TRANSPOSED, content_hash, load_backbone, locate_weights

SHAPES = [
    GPTConfig(vocab_size=97, n_positions=32, n_embd=24, n_layer=3, n_head=4),
    GPTConfig(vocab_size=31, n_positions=16, n_embd=40, n_layer=2, n_head=2),
]


def reference(config: GPTConfig, **settings: object) -> GPT2LMHeadModel:
    """A randomly made GPT-2 in which no bias or scale is at its default."""
    sizes = {name: getattr(config, name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")}
    model = GPT2LMHeadModel(GPT2Config(**(sizes | settings))).eval()
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
            hidden = ours.eval().hidden(ids)
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
        found = ours.next_token_logits(ours.hidden(ids))
    assert head == {}
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_fine_tuned_book_classifier_brings_its_head(tmp_path: Path) -> None:
    theirs, out_head = reference(SHAPES[0]), {"weight": torch.randn(2, 24), "bias": torch.randn(2)}
    path = tmp_path / "review_classifier.pth"
    torch.save(book_state(in_our_layout(theirs), out_head), path)
    model = load_classifier(SHAPES[0], path, LastToken(), num_outputs=2)
    ids, lengths = torch.randint(97, (2, 20)), torch.tensor([20, 7])
    with torch.no_grad():
        hidden = theirs.transformer(ids).last_hidden_state[[0, 1], [19, 6]]
        expected = hidden @ out_head["weight"].t() + out_head["bias"]
        torch.testing.assert_close(model(ids, lengths), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="fine-tuned for 2 classes, but the data has 5"):
        load_classifier(SHAPES[0], path, LastToken(), num_outputs=5)


@pytest.mark.parametrize("with_config", [False, True])
def test_weights_of_another_size_are_refused_with_the_options_that_fit(tmp_path: Path, with_config: bool) -> None:
    reference(SHAPES[0]).save_pretrained(tmp_path)
    if not with_config:
        (tmp_path / "config.json").unlink()
    other = replace(SHAPES[0], vocab_size=31, n_layer=4)
    with pytest.raises(OptionError) as caught:
        load_backbone(other, tmp_path)
    assert caught.value.field == "backbone"
    assert "but it is vocab_size=31, n_layer=4" in str(caught.value)
    assert "Set backbone.vocab_size=97 backbone.n_layer=3, or" in str(caught.value)


def test_another_number_of_heads_which_no_shape_tells_is_refused(tmp_path: Path) -> None:
    reference(SHAPES[0], n_head=2).save_pretrained(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(OptionError, match=r"expected n_head=2 as in .*config.json.* Set backbone.n_head=2"):
            load_backbone(SHAPES[0], path)
    load_backbone(replace(SHAPES[0], n_head=2), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "supported"),
    [
        ("activation_function", "relu", '"gelu_new"'),
        ("activation_function", "gelu", '"gelu_new"'),
        ("layer_norm_epsilon", 1e-3, "1e-05"),
        ("scale_attn_weights", False, "true"),
        ("scale_attn_by_inverse_layer_idx", True, "false"),
        ("add_cross_attention", True, "false"),
        ("n_inner", 50, "null or 96"),
    ],
)
def test_setting_that_the_backbone_lacks_is_refused_by_name(
    tmp_path: Path, key: str, value: object, supported: str
) -> None:
    reference(SHAPES[0], **{key: value}).save_pretrained(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(OptionError) as caught:
            load_backbone(SHAPES[0], path)
        assert caught.value.field == "weights"
        assert f"expected those of a GPT-2 with {key}={supported}" in str(caught.value)
        assert f"which has {key}={json.dumps(value)} in its config.json" in str(caught.value)


def test_weights_of_another_architecture_are_refused_by_name(tmp_path: Path) -> None:
    reference(SHAPES[0]).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(OptionError, match=r'expected those of a GPT-2 with model_type="gpt2".*model_type="llama"'):
        load_backbone(SHAPES[0], tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"activation_function": "gelu_pytorch_tanh"},
        {"activation_function": "gelu_fast"},
        {"activation_function": "gelu_accurate"},
        {"n_inner": 96},
        {"reorder_and_upcast_attn": True},
        {"resid_pdrop": 0.3, "summary_type": "mean", "of_no_meaning": [1]},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
def test_settings_that_change_no_hidden_state_load(tmp_path: Path, settings: dict) -> None:
    theirs = reference(SHAPES[0], **settings)
    theirs.save_pretrained(tmp_path)
    ours, _ = load_backbone(SHAPES[0], tmp_path)
    ids = torch.randint(97, (2, 20))
    with torch.no_grad():
        expected = theirs.transformer(ids).last_hidden_state
        torch.testing.assert_close(ours.hidden(ids), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"n_head": 4', b"\xff", b"[" * 100_000], ids=range(5))
def test_broken_config_json_is_told(tmp_path: Path, content: bytes) -> None:
    reference(SHAPES[0]).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json: expected a JSON object"):
        load_backbone(SHAPES[0], tmp_path)


def test_config_json_beside_a_state_dict_of_another_origin_is_not_its_own(tmp_path: Path) -> None:
    torch.save(book_state(in_our_layout(reference(SHAPES[0])), {}), tmp_path / "gpt.pth")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    load_backbone(SHAPES[0], tmp_path / "gpt.pth")


def test_mlp_of_another_width_is_not_said_to_be_a_matter_of_options(tmp_path: Path) -> None:
    reference(SHAPES[0], n_inner=50).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(
        UserError, match=r"mlp.c_fc.* shape \(50, 24\) where \(96, 24\) was expected. No option changes this"
    ):
        load_backbone(SHAPES[0], tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_only_a_language_model_head_of_its_own_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tied: bool
) -> None:
    theirs = reference(SHAPES[0], tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path)
    if tied:  # files of other tools repeat it
        tensors = load_file(tmp_path / "model.safetensors")
        save_file(tensors | {"lm_head.weight": theirs.lm_head.weight.detach()}, tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        load_backbone(SHAPES[0], tmp_path)
    assert ("generated text will not be the file's" in caplog.text) is not tied


@pytest.mark.parametrize("parts", [1, 2])
def test_folder_with_pytorch_model_bin_loads(tmp_path: Path, parts: int) -> None:
    theirs = reference(SHAPES[0])
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    if parts == 1:
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    else:
        places = {name: f"pytorch_model-0000{i % 2 + 1}-of-00002.bin" for i, name in enumerate(tensors)}
        for file in set(places.values()):
            torch.save({name: tensors[name] for name in tensors if places[name] == file}, tmp_path / file)
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    ours, _ = load_backbone(SHAPES[0], tmp_path)
    ids = torch.randint(97, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(ours.hidden(ids), theirs.transformer(ids).last_hidden_state, atol=1e-5, rtol=1e-5)
    assert len(content_hash(tmp_path, tmp_path / "memory.json")) == 64


def test_folder_without_weights_and_broken_index_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"weights: expected a folder with model.safetensors or pytorch_model.bin"):
        load_backbone(SHAPES[0], tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": ["model-1.safetensors"]}')
    with pytest.raises(UserError, match=r"index.json: expected weight_map to give each tensor its file"):
        load_backbone(SHAPES[0], tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64, torch.bool], ids=str)
def test_weights_of_a_type_that_is_no_float_are_refused(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    tensors = dict(in_our_layout(reference(SHAPES[0])))
    tensors["h.1.mlp.c_fc.bias"] = tensors["h.1.mlp.c_fc.bias"].to(dtype)
    with pytest.raises(UserError, match=f"h.1.mlp.c_fc.bias is {str(dtype).removeprefix('torch.')}"):
        load_backbone(SHAPES[0], saved(tensors, tmp_path / f"weights.{suffix}"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30, -1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_values_that_no_weight_has_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in in_our_layout(reference(SHAPES[0])).items()}
    tensors["h.1.attn.c_attn.weight"][3, 5] = value
    with pytest.raises(UserError, match=r"h.1.attn.c_attn.weight holds -?(nan|inf|1\S*e\+30)"):
        load_backbone(SHAPES[0], saved(tensors, tmp_path / "weights.safetensors"))


def saved(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str, str | None]]:
    """What a Hugging Face Hub with one repository is asked for: repository, file, revision."""
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    asked = []

    def download(repository: str, file: str, revision: str | None = None) -> str:
        asked.append((repository, file, revision))
        if revision == "unknown":
            raise RevisionNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        if file != "model.safetensors":
            raise EntryNotFoundError(file)
        (tmp_path / file).touch()
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    return asked


@pytest.mark.parametrize("size", ["small", "medium", "large", "xl"])
def test_released_weights_are_asked_for_at_a_commit_with_their_config_json(
    hub: list, size: str, tmp_path: Path
) -> None:
    model = OmegaConf.load(ROOT / "conf" / "model" / f"gpt2-{size}.yaml")
    assert locate_weights("pretrained", model.hub, model.revision) == tmp_path / "model.safetensors"
    assert {file for _, file, _ in hub} == {"model.safetensors", "config.json"}
    assert all(repository == model.hub and re.fullmatch("[0-9a-f]{40}", revision) for repository, _, revision in hub)


def test_repository_without_safetensors_gives_its_state_dict(
    hub: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub.errors import EntryNotFoundError

    def download(repository: str, file: str, revision: str | None = None) -> str:
        if file == "model.safetensors":
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert locate_weights("pretrained", "some/deberta") == tmp_path / "pytorch_model.bin"


def test_weights_in_the_cache_are_not_asked_more_about(
    hub: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(tmp_path / "model.safetensors"))
    locate_weights("pretrained", "some/gpt", "v1")
    assert hub == [("some/gpt", "model.safetensors", "v1")]


def test_revision_that_is_none_is_told(hub: list) -> None:
    with pytest.raises(OptionError, match=r"revision: expected a commit, tag or branch of some/gpt, .* it is unknown"):
        locate_weights("pretrained", "some/gpt", "unknown")
    with pytest.raises(OptionError, match=r"revision: expected a commit, tag or branch of some/gpt, .* it is 123"):
        locate_weights("pretrained", "some/gpt", 123)
    locate_weights("pretrained", "some/gpt")
    assert hub[-1][2] is None


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "{", "[" * 100_000], ids=range(6))
def test_memory_of_hashes_may_hold_anything(tmp_path: Path, content: str) -> None:
    weights, memory = tmp_path / "model.safetensors", tmp_path / "weights.json"
    weights.write_bytes(b"weights")
    memory.write_text(content)
    found = content_hash(weights, memory)
    assert list(json.loads(memory.read_text()).values()) == [found]
    memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_text()), 7)))
    assert content_hash(weights, memory) == found


def test_remembered_hash_is_not_computed_again_unless_it_is_to_be_verified(tmp_path: Path) -> None:
    weights, memory = tmp_path / "model.safetensors", tmp_path / "weights.json"
    weights.write_bytes(b"weights")
    found = content_hash(weights, memory)
    memory.write_text(memory.read_text().replace(found, "remembered"))
    assert content_hash(weights, memory) == "remembered"
    assert content_hash(weights, memory, verify=True) == found
    assert content_hash(weights, memory) == found


def test_weights_changed_in_place_are_hashed_again_even_at_their_old_time(tmp_path: Path) -> None:
    weights, memory = tmp_path / "model.safetensors", tmp_path / "weights.json"
    weights.write_bytes(b"weights")
    before, stat = content_hash(weights, memory), weights.stat()
    while weights.stat().st_ctime_ns == stat.st_ctime_ns:  # file systems count time in steps
        weights.write_bytes(b"changed")
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.stat().st_mtime_ns == stat.st_mtime_ns
    assert content_hash(weights, memory) != before


def test_without_a_network_the_answer_comes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *arguments, **options: asked.append("download"))
    with pytest.raises(UserError, match=r"127\.0\.0\.1 can't be reached .* Connect to the network once"):
        locate_weights("pretrained", "openai-community/no-such-model", "main")
    assert not asked
