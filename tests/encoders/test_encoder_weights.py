"""Files of transformers mean the same here, or are refused by name."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import config_of, write
from torch import Tensor

from gpt_classifier.encoders.config import EncoderConfig
from gpt_classifier.encoders.weights import load_encoder
from gpt_classifier.errors import OptionError, UserError


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_older_names_and_tables_of_positions_load(tmp_path: Path) -> None:
    write("bert", tmp_path)
    expected = load_encoder(config_of("bert"), tmp_path).state_dict()
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    rewrite(tmp_path, renamed | {"bert.embeddings.position_ids": torch.arange(40)[None]})
    found = load_encoder(config_of("bert"), tmp_path).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_older_files_of_torch_load(tmp_path: Path) -> None:
    write("roberta", tmp_path)
    expected = load_encoder(config_of("roberta"), tmp_path).state_dict()
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    found = load_encoder(config_of("roberta"), tmp_path).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_heads_are_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write("bert", tmp_path)
    with caplog.at_level(logging.INFO):
        load_encoder(config_of("bert"), tmp_path)
    assert "weights  without classifier, pooler, which nothing here reads" in caplog.text


def test_weights_that_are_missing_or_unknown_are_named(tmp_path: Path) -> None:
    write("bert", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["bert.extra.weight"] = tensors.pop("bert.embeddings.word_embeddings.weight")
    rewrite(tmp_path, tensors)
    with pytest.raises(UserError, match=r"1 are missing \(such as embeddings.word_emb.*1 are unknown .*extra.weight"):
        load_encoder(config_of("bert"), tmp_path)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    write("bert", tmp_path)
    with pytest.raises(OptionError, match=r"backbone\.settings: expected intermediate_size=32 as in .*config\.json"):
        load_encoder(config_of("bert", intermediate_size=48), tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"has shape \(32, 24\) where \(48, 24\) was expected"):
        load_encoder(config_of("bert", intermediate_size=48), tmp_path)


def test_settings_that_no_shape_tells_are_compared(tmp_path: Path) -> None:
    write("bert", tmp_path)
    for setting, value in (("layer_norm_eps", 1e-5), ("hidden_act", "relu"), ("num_attention_heads", 2)):
        with pytest.raises(OptionError, match=f"backbone.settings: expected {setting}="):
            load_encoder(config_of("bert", **{setting: value}), tmp_path)
    load_encoder(config_of("bert", hidden_dropout_prob=0.5, initializer_range=0.1), tmp_path)


def test_weights_of_another_architecture_are_refused_by_name(tmp_path: Path) -> None:
    write("roberta", tmp_path)
    with pytest.raises(OptionError, match=r"weights: expected those of a bert, .* whose model_type is roberta"):
        load_encoder(config_of("bert"), tmp_path)


def test_setting_that_transformers_would_ignore_is_refused(tmp_path: Path) -> None:
    write("bert", tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | {"position_embedding_type": "relative_key"}))
    with pytest.raises(OptionError, match="weights: expected those of an encoder with position_embedding_type"):
        load_encoder(config_of("bert"), tmp_path)


def test_random_weights_follow_the_seed() -> None:
    first, second = (
        (torch.manual_seed(seed), load_encoder(config_of("modernbert"), None).state_dict())[1] for seed in (1, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(2)
    other = load_encoder(config_of("modernbert"), None).state_dict()
    assert not torch.equal(
        first["model.embeddings.tok_embeddings.weight"], other["model.embeddings.tok_embeddings.weight"]
    )


def test_state_makes_the_same_settings(tmp_path: Path) -> None:
    state = config_of("deberta-v3").state()
    assert EncoderConfig(**json.loads(json.dumps(state))).state() == state
