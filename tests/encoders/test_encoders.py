"""What transformers computes, whatever is computed apart; dropout where blocks are trained."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf
from tiny_encoders import ENCODERS, config_of, write

from gpt_classifier.config import compose
from gpt_classifier.encoders.backbones import build
from gpt_classifier.encoders.config import ARCHITECTURES, EncoderConfig, complete, from_checkpoint
from gpt_classifier.encoders.weights import load_encoder
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.families import complete_config, empty_backbone
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import hold_frozen, train_everything, train_head_only, train_last_blocks
from gpt_classifier.models.lora import LoRA, add_adapters, merge, train_lora
from gpt_classifier.models.pooling import FirstToken, Max
from gpt_classifier.training.build import backbone_config

every_encoder = pytest.mark.parametrize("name", ENCODERS)


@every_encoder
@pytest.mark.parametrize("padding", [0, 4])
def test_prefix_and_suffix_are_the_model_of_transformers_at_every_depth(
    name: str, padding: int, tmp_path: Path
) -> None:
    theirs = write(name, tmp_path)
    config = complete_config(EncoderConfig(), str(tmp_path), None, None)
    ours = load_encoder(config, tmp_path).eval()
    lengths = torch.tensor([17, 9, 1]) if padding else torch.tensor([17, 17, 17])
    seen = torch.arange(17 + padding) < lengths[:, None]
    ids = torch.randint(4, 50, seen.shape).masked_fill(~seen, theirs.config.pad_token_id)
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=seen.long()).last_hidden_state[seen]
        x = ours.embed(ids, lengths)
        for k in range(ours.depth + 1):
            prefix = ours.blocks(x, lengths, 0, k)
            prefix[~seen] = 1e3  # whatever stands at padding
            found = ours.norm(ours.blocks(prefix, lengths, k, ours.depth))[seen]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@every_encoder
def test_attention_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = write(name, tmp_path, attn_implementation="eager")
    ours = load_encoder(complete_config(EncoderConfig(), str(tmp_path), None, None), tmp_path).eval()
    ids, lengths = torch.randint(4, 50, (2, 12)), torch.tensor([12, 12])
    with torch.no_grad():
        before = ours(ids, lengths)
        expected = torch.stack(theirs(input_ids=ids, output_attentions=True).attentions)
        torch.testing.assert_close(ours.attention(ids, lengths), expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(ours(ids, lengths), before)


def test_positions_of_roberta_do_not_depend_on_its_token_for_padding() -> None:
    backbone = build(config_of("roberta")).eval()
    ids, lengths = torch.randint(4, 50, (1, 9)), torch.tensor([9])
    spelled = ids.clone()
    spelled[0, 2] = 1
    with torch.no_grad():
        assert torch.equal(backbone.embed(spelled, lengths)[0, 3:], backbone.embed(ids, lengths)[0, 3:])
    assert backbone.context == 38  # of 40 embeddings of positions two belong to no token


def test_no_attention_is_without_a_key() -> None:
    backbone = build(config_of("modernbert"))
    x, lengths = torch.randn(2, 20, 24), torch.tensor([20, 1])
    for mask, _ in backbone.shared(x, lengths).values():
        assert mask.any(dim=-1).all()  # kernels may make nan of a softmax over nothing, which padding would pass on


@every_encoder
def test_settings_of_weights_are_read_back_from_their_file(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    config = from_checkpoint(EncoderConfig(), str(tmp_path / "model.safetensors"), None, None)
    assert config.state() == config_of(name).state()


@every_encoder
def test_products_in_bfloat16_are_close_and_train(name: str) -> None:
    model = Classifier(build(config_of(name)), FirstToken(), 2)
    train_last_blocks(model, 1)
    model.eval()
    ids, lengths = torch.randint(4, 50, (3, 12)), torch.tensor([12, 5, 1])
    expected = model(ids, lengths)
    hold_frozen(model, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(ids, lengths)
        weights = model.backbone.attention(ids, lengths)
    assert (found - expected).abs().max() < 0.02
    assert found.dtype == weights.dtype == torch.float32
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


# dropout


def dropping(name: str) -> Classifier:
    rates = dict.fromkeys(ARCHITECTURES[ENCODERS[name][0]].dropouts, 0.5)
    return Classifier(build(config_of(name, **rates)), FirstToken(), 2)


@every_encoder
def test_dropout_acts_in_trained_blocks_and_in_no_frozen_one(name: str) -> None:
    model = dropping(name)
    ids, lengths = torch.randint(4, 50, (2, 9)), torch.tensor([9, 5])
    train_last_blocks(model, 1)
    model.train()
    frozen = model.frozen_depth()
    assert frozen == 2
    assert torch.equal(model.prefix(ids, lengths, frozen), model.prefix(ids, lengths, frozen))
    x = model.prefix(ids, lengths, frozen)
    assert not torch.equal(model.suffix(x, lengths, frozen, ids), model.suffix(x, lengths, frozen, ids))
    model.eval()
    assert torch.equal(model(ids, lengths), model(ids, lengths))
    train_everything(model)
    model.train()
    assert not torch.equal(model.prefix(ids, lengths, 0), model.prefix(ids, lengths, 0))


@every_encoder
def test_frozen_encoder_drops_nothing(name: str) -> None:
    model = dropping(name)
    ids, lengths = torch.randint(4, 50, (2, 9)), torch.tensor([9, 5])
    train_head_only(model)
    model.train()
    assert model.frozen_depth() == model.pooled_depth
    assert torch.equal(model(ids, lengths), model(ids, lengths))
    assert model.backbone.dropout == 0.5


@every_encoder
def test_dropout_can_be_set(name: str) -> None:
    config = config_of(name)
    assert build(EncoderConfig(config.architecture, config.settings, dropout=0.3)).dropout == 0.3
    assert build(EncoderConfig(config.architecture, config.settings, dropout=0.0)).dropout == 0.0
    with pytest.raises(OptionError, match="dropout: expected a number from 0 to 1, but it is 2"):
        EncoderConfig(config.architecture, config.settings, dropout=2)


# LoRA


@every_encoder
def test_adapters_of_all_layers_train_and_fold_into_them(name: str) -> None:
    options = {"rank": 2, "alpha": 2, "scaling": "alpha", "init": "rank", "dropout": 0.0}
    layers = OmegaConf.load(ROOT / "conf" / "freeze" / "lora.yaml").layers
    model = Classifier(build(config_of(name)), Max(), 2)
    ids, lengths = torch.randint(4, 50, (2, 9)), torch.tensor([9, 5])
    before = model.eval()(ids, lengths)
    train_lora(model, train_head=False, **options, layers=list(layers))
    torch.testing.assert_close(model(ids, lengths), before)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    for _ in range(2):
        model(ids, lengths).square().sum().backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in trained)
    adapted = model(ids, lengths)
    assert not torch.allclose(adapted, before)
    merge(model)
    torch.testing.assert_close(model(ids, lengths), adapted, atol=1e-5, rtol=1e-4)


def test_adapters_of_a_part_of_modernberts_fused_layer_change_nothing_else() -> None:
    model = Classifier(build(config_of("modernbert")), Max(), 2)
    add_adapters(model, LoRA(2, 2, "alpha", "rank", 0.0, ["mlp_gate"]))
    assert {name.split(".")[-2] for name, _ in model.named_parameters() if name.endswith("lora_a")} == {"Wi"}


# what is refused, and what is not imported


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"is_decoder": True}, "settings: expected those of an encoder with is_decoder=false"),
        ({"position_embedding_type": "relative_key"}, 'encoder with position_embedding_type="absolute"'),
        ({"num_attention_heads": 5}, "settings: expected those of a bert"),
        ({"hidden_size": "wide"}, "settings: expected those of a bert as transformers takes them.*'hidden_size'.*wide"),
        ({"hidden_act": "gelub"}, "settings: expected those of a bert"),
    ],
)
def test_settings_that_can_not_be_computed_are_refused(settings: dict, expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        build(config_of("bert", **settings))


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"architecture: expected one of distilbert, .*, but it is rnn"):
        EncoderConfig("rnn", {})
    for content, expected in (
        ('{"model_type": "llama"}', r"weights: expected a checkpoint whose model_type .* whose model_type is llama"),
        ('{"model_type": "gpt2"}', "GPT-2s are model=gpt2-small"),
        ("{}", r"config\.json: expected a JSON object with a model_type"),
        ("[]", r"config\.json: expected a JSON object with a model_type"),
        ("{", r"config\.json: expected a JSON object with a model_type"),
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=expected):
            from_checkpoint(EncoderConfig(), str(tmp_path), None, None)


def test_checkpoint_that_can_not_be_had_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="hub: expected a repository on the Hugging Face Hub"):
        from_checkpoint(EncoderConfig(), "pretrained", None, None)
    with pytest.raises(UserError, match=r"some/encoder: .* config\.json .* Connect to the network once"):
        from_checkpoint(EncoderConfig(), "pretrained", "some/encoder", None)
    with pytest.raises(OptionError, match="weights: expected a folder that transformers wrote"):
        from_checkpoint(EncoderConfig(), str(tmp_path), None, None)


def test_library_that_is_not_installed_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[encoders\]"'):
        empty_backbone(config_of("bert"))


def test_without_an_encoder_its_libraries_are_not_imported() -> None:
    code = (
        "import sys, gpt_classifier.families as families, gpt_classifier.tokenizers as tokenizers\n"
        "import gpt_classifier, gpt_classifier.models.gpt as gpt\n"
        "families.empty_backbone(gpt.GPTConfig(n_layer=1))\n"
        "tokenizers.load_tokenizer('gpt2-nano').encode(['see you'], 9, 'head')\n"
        "assert not {'transformers', 'tokenizers', 'gpt_classifier.encoders.backbones'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


PARAMETERS = {
    "distilbert": 66_362_880,
    "bert-base": 108_891_648,
    "bert-large": 334_092_288,
    "roberta-base": 124_055_040,
    "roberta-large": 354_310_144,
    "deberta-v3-base": 183_831_552,
    "modernbert-base": 149_014_272,
    "modernbert-large": 394_781_696,
}
"""Of the released models, without poolers and heads."""


@pytest.mark.parametrize("model", PARAMETERS)
def test_model_has_the_size_of_the_released_one(model: str) -> None:
    cfg = compose([f"model={model}", "data=csv", "data.path=x.csv"])
    backbone = empty_backbone(backbone_config(cfg))
    assert sum(p.numel() for p in backbone.parameters()) == PARAMETERS[model]
    assert backbone.context == (8192 if model.startswith("modernbert") else 512)
    assert cfg.pooling._target_.endswith("FirstToken")
    assert cfg.recipe.rates[model] == cfg.recipe.rates.encoder


def test_small_vocabulary_of_a_checkpoint_is_no_reason_for_warnings(caplog: pytest.LogCaptureFixture) -> None:
    settings = config_of("modernbert").state()["settings"]  # as a checkpoint keeps them, without ids of special tokens
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    complete(EncoderConfig("modernbert", settings))
    logger.removeHandler(caplog.handler)
    assert not caplog.records
