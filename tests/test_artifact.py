"""What is saved of a classifier, and what opens again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt_classifier.artifact import Spec, open_artifact, pooling_state, save_bundle, store_temperature
from gpt_classifier.data.tokenizers import load_tokenizer
from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import POOLINGS, Pooling
from gpt_classifier.tasks import SingleLabel

FORMAT_3 = Path(__file__).parent / "inference" / "format_3.ckpt"
TEXTS = ["WINNER!! Call now to claim your prize", "See you at the station at five"]


def made(pooling: str = "last_token") -> tuple[Spec, Classifier]:
    config = GPTConfig(vocab_size=8192, n_positions=32, n_embd=12, n_layer=2, n_head=2)
    model = Classifier(GPT(config).initialise(), POOLINGS[pooling](), 3).eval()
    spec = Spec(
        backbone=model.backbone.state(),
        pooling=pooling_state(model.pooling),
        tokenizer=load_tokenizer("gpt2-nano").state(),
        task=SingleLabel(["no", "maybe", "yes"]).state(),
        max_length=20,
        pad_to="batch",
        truncate="tail",
        note="Made up.",
    )
    return spec, model


def opened(path: Path) -> Predictor:
    return Predictor.open(path, device="cpu", precision="32-true")


def test_checkpoint_of_format_3_opens_and_predicts_what_it_did() -> None:
    # of the version that wrote it: gpt2-nano, LoRA on queries, mean pooling, temperature 1.25
    expected = [[0.645986795, 0.354013234], [0.461966038, 0.538033962]]
    predictor = opened(FORMAT_3)
    assert predictor.classes == ["ham", "spam"]
    assert predictor.temperature == 1.25
    assert "synthetic" in predictor.note
    np.testing.assert_allclose(predictor.predict_proba(TEXTS), expected, atol=1e-6)


def test_spec_survives_what_files_do_to_it() -> None:
    spec, _ = made()
    assert Spec.from_plain(spec.plain()) == spec
    assert Spec.from_plain(json.loads(json.dumps(spec.plain()))) == spec


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"format": 99}, {"temperature": 0}, {"temperature": float("nan")}, {"surprise": 1}]
)
def test_spec_that_says_something_else_is_refused(change: dict) -> None:
    spec, _ = made()
    with pytest.raises((ValueError, TypeError)):
        Spec.from_plain({**spec.plain(), **change})


def test_bundle_needs_nothing_beside_it_and_rounds_nothing(tmp_path: Path) -> None:
    spec, model = made()
    model.head.weight.data = model.head.weight.data.bfloat16().float()  # some weights fit bfloat16, others do not
    save_bundle(tmp_path / "saved", spec, model)
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"classifier.json", "model.safetensors"}
    artifact = open_artifact(tmp_path / "saved")
    assert artifact.spec == spec
    again = artifact.build()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert opened(tmp_path / "saved").predict_proba(TEXTS).shape == (2, 3)


def test_bundle_replaces_a_bundle_and_nothing_else(tmp_path: Path) -> None:
    spec, model = made()
    save_bundle(tmp_path / "saved", spec, model)
    save_bundle(tmp_path / "saved", replace(spec, note="Another."), model)
    assert open_artifact(tmp_path / "saved").spec.note == "Another."
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("text")
    for name in ("mine", "file"):
        with pytest.raises(UserError, match="no saved classifier"):
            save_bundle(tmp_path / name, spec, model)
    with pytest.raises(UserError, match="can't be written"):
        save_bundle(tmp_path / "file" / "below", spec, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine", "saved"]
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("damage", ["no spec", "no weights", "cut spec", "cut weights", "other weights"])
def test_damaged_bundle_is_told(tmp_path: Path, damage: str) -> None:
    spec, model = made()
    folder = tmp_path / "saved"
    save_bundle(folder, spec, model)
    what, _, which = damage.partition(" ")
    file = folder / {"spec": "classifier.json", "weights": "model.safetensors"}[which]
    if what == "no":
        file.unlink()
    elif what == "cut":
        file.write_bytes(file.read_bytes()[:-200])
    else:
        _, other = made()
        other.head = torch.nn.Linear(12, 5)
        save_bundle(tmp_path / "other", spec, other)
        file.write_bytes((tmp_path / "other" / file.name).read_bytes())
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        opened(folder)


def test_temperature_is_stored_in_bundles_and_checkpoints(tmp_path: Path) -> None:
    spec, model = made()
    save_bundle(tmp_path / "saved", spec, model)
    copied = tmp_path / "old.ckpt"
    copied.write_bytes(FORMAT_3.read_bytes())
    for path in (tmp_path / "saved", copied):
        store_temperature(path, 2.5)
        assert open_artifact(path).spec.temperature == 2.5
    assert sorted(path.name for path in tmp_path.rglob("*.part")) == []


def test_pooling_of_a_users_own_opens_once_its_module_is_imported(tmp_path: Path) -> None:
    spec, model = made()
    foreign = replace(spec, pooling={"name": "their_module.Attentive", "options": {"width": 12}})
    save_bundle(tmp_path / "saved", foreign, model)
    with pytest.raises(UserError, match="import their_module first"):
        opened(tmp_path / "saved")

    class Attentive(Pooling):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.query = torch.nn.Parameter(torch.randn(width))

        def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return hidden[:, 0] * self.query

        def state(self) -> dict[str, object]:
            return {"width": len(self.query)}

        @classmethod
        def name(cls) -> str:
            return "their_module.Attentive"

    model.pooling = Attentive(12)
    save_bundle(tmp_path / "saved", foreign, model)
    assert torch.equal(opened(tmp_path / "saved").model.pooling.query, model.pooling.query)
