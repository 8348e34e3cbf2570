"""LoRA: adapters that start from the base, train apart from it, and fold into it."""

from typing import Any

import pytest
import torch

from gpt_classifier.errors import UserError
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.lora import LoRA, add_adapters, merge, train_lora
from gpt_classifier.models.pooling import POOLINGS

CONFIG = GPTConfig(vocab_size=50, n_positions=40, n_embd=24, n_layer=3, n_head=4)
LAYERS = ["query", "key", "value", "attention_output", "mlp_input", "mlp_output", "head"]
IDS = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([9, 5])


def classifier(pooling: str = "last_token") -> Classifier:
    return Classifier(GPT(CONFIG).initialise(), POOLINGS[pooling](), num_outputs=3).eval()


def adapted(model: Classifier, trained: bool = True, **changes: Any) -> Classifier:
    """With adapters on everything, as if they had learned something."""
    options = {"rank": 4, "alpha": 8, "scaling": "alpha_over_rank", "init": "in_features", "dropout": 0.0}
    add_adapters(model, LoRA(**{**options, "layers": LAYERS, **changes}))
    if trained:
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def logits(model: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, LENGTHS)


@pytest.mark.parametrize("pooling", ["last_token", "mean"])
def test_adapters_start_from_what_the_base_computes(pooling: str) -> None:
    model = classifier(pooling)
    before = logits(model)
    torch.testing.assert_close(logits(adapted(model, trained=False)), before, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["last_token", "mean"])
@pytest.mark.parametrize("layers", [LAYERS, ["query", "value"], ["key", "mlp_output"], ["head"]])
def test_merging_gives_a_plain_model_with_the_same_logits(pooling: str, layers: list[str]) -> None:
    model = classifier(pooling)
    plain = logits(model)
    names = set(model.state_dict())
    adapted(model, layers=layers)
    expected = logits(model)
    assert not torch.allclose(expected, plain, atol=1e-3)
    merge(model)
    assert set(model.state_dict()) == names
    assert model.lora is None
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-4)


def test_query_key_and_value_have_adapters_of_their_own() -> None:
    model = classifier()
    before = model.backbone.h[1].attn.c_attn.weight.detach().clone()
    adapted(model, layers=["key"])
    merge(model)
    query, key, value = (model.backbone.h[1].attn.c_attn.weight - before).chunk(3)
    assert query.abs().max() == value.abs().max() == 0
    assert key.abs().max() > 0.01


@pytest.mark.parametrize(("scaling", "factor"), [("alpha", 8), ("alpha_over_rank", 2)])
def test_adapters_are_multiplied_by_what_scaling_says(scaling: str, factor: float) -> None:
    model = adapted(classifier(), scaling=scaling)
    layer = model.backbone.h[0].mlp.c_fc
    expected = layer.weight + factor * layer.lora_b[0] @ layer.lora_a[0]
    torch.testing.assert_close(layer.merged().weight, expected)


@pytest.mark.parametrize(("init", "bound"), [("rank", 4**-0.5), ("in_features", 24**-0.5)])
def test_first_factor_is_drawn_within_its_bound(init: str, bound: float) -> None:
    layer = adapted(classifier(), init=init).backbone.h[0].attn.c_attn
    assert 0.9 * bound < layer.lora_a.abs().max() <= bound


def test_dropout_acts_on_the_adapters_in_training_only() -> None:
    model = adapted(classifier(), dropout=0.5)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_appendix_e_trains_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Classifier(GPT(GPTConfig()), POOLINGS["last_token"](), num_outputs=2)
    train_lora(
        model,
        train_head=False,
        rank=16,
        alpha=16,
        scaling="alpha_over_rank",
        init="rank",
        dropout=0.0,
        layers=LAYERS,
    )
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2_666_528


def test_only_adapters_and_on_request_the_head_are_trained() -> None:
    for train_head in (False, True):
        model = classifier()
        train_lora(model, train_head, rank=2, alpha=2, scaling="alpha", init="rank", dropout=0.0, layers=["query"])
        names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        expected = {f"backbone.h.{i}.attn.c_attn.{lora}" for i in range(3) for lora in ("lora_a", "lora_b")}
        assert names == expected | ({"head.weight", "head.bias"} if train_head else set())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, r"^rank: expected a whole number of at least 1"),
        ({"alpha": -1}, r"^alpha"),
        ({"dropout": 2}, r"^dropout"),
        ({"scaling": "rank"}, r"^scaling: expected alpha_over_rank or alpha"),
        ({"init": "zeros"}, r"^init: expected in_features or rank"),
        ({"layers": ["query", "bias"]}, r"^layers: expected some of query, key"),
        ({"layers": "query"}, r"^layers"),
        ({"layers": []}, r"^layers"),
    ],
)
def test_impossible_adapters_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        adapted(classifier(), **changes)
