"""What is saved of a classifier, and what opens again."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpt_classifier import torch_files
from gpt_classifier.artifact import KEY, find_base, open_artifact, pooling_state, save_bundle, store_temperature
from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import POOLINGS, Pooling
from gpt_classifier.models.weights import content_hash
from gpt_classifier.paths import cache_folder
from gpt_classifier.spec import Base, Spec
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer

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
    # of a version that wrote such: gpt2-nano (its second edition), LoRA on queries, mean pooling, temperature 1.25
    expected = [[0.720581234, 0.279418766], [0.467318565, 0.532681406]]
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


def saved_checkpoint(folder: Path, made_before: tuple[Spec, Classifier] | None = None) -> Path:
    spec, model = made_before or made()
    torch_files.save({KEY: spec.plain(), "state_dict": model.state_dict(prefix="model.")}, folder / "best.ckpt")
    return folder / "best.ckpt"


def one_bit_off(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("kind", ["checkpoint", "weights of a bundle", "values of a bundle"])
def test_a_changed_bit_is_refused_or_changes_nothing(tmp_path: Path, kind: str) -> None:
    spec, model = made()
    expected = model.state_dict()
    path = file = saved_checkpoint(tmp_path, (spec, model))
    if kind != "checkpoint":
        path = tmp_path / "saved"
        save_bundle(path, spec, model)
        file = path / ("model.safetensors" if kind.startswith("weights") else "classifier.json")
    content, refused = file.read_bytes(), 0
    for place in range(0, len(content), max(1, len(content) // 150)):
        one_bit_off(file, place)
        try:
            artifact = open_artifact(path)
        except UserError:
            refused += 1
        else:  # a byte that nobody reads, such as padding between tensors
            assert artifact.spec == spec
            assert all(torch.equal(artifact.tensors[name], tensor) for name, tensor in expected.items())
        file.write_bytes(content)
    assert refused > 100


def test_zeros_that_a_crash_left_are_refused_wherever_a_checkpoint_is_opened(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)
    path.write_bytes(content)
    for open_it in (open_artifact, lambda path: store_temperature(path, 2.0)):
        with pytest.raises((UserError, ValueError), match="damaged: the checksum of data/"):
            open_it(path)
    assert path.read_bytes() == content


def test_checkpoint_that_was_broken_off_is_told(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="damaged: its end is missing"):
        open_artifact(path)


def test_bundle_without_checksum_opens_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_bundle(tmp_path / "saved", *made())
    file = tmp_path / "saved" / "classifier.json"
    values = json.loads(file.read_text())
    del values["checksum"]
    file.write_text(json.dumps(values))
    assert open_artifact(tmp_path / "saved").spec == made()[0]
    assert "without a checksum" in caplog.text


def test_pretrained_weights_changed_in_place_are_noticed(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_file({"w": torch.arange(100.0)}, weights)
    base = Base(str(weights), None, content_hash(weights, cache_folder() / "weights.json"))
    assert find_base(base, None, tmp_path) == weights
    times = weights.stat()
    one_bit_off(weights, weights.stat().st_size - 7)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UserError, match="are other ones"):
        find_base(base, None, tmp_path)


def test_verify_reads_pretrained_weights_that_seem_unchanged(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_file({"w": torch.arange(100.0)}, weights)
    memory = cache_folder() / "weights.json"
    base = Base(str(weights), None, content_hash(weights, memory))
    one_bit_off(weights, weights.stat().st_size - 7)
    content_hash(weights, memory)
    remembered = json.loads(memory.read_text())
    memory.write_text(json.dumps(dict.fromkeys(remembered, base.sha256)))  # as if the disk had changed it
    assert find_base(base, None, tmp_path) == weights
    with pytest.raises(UserError, match="are other ones"):
        find_base(base, None, tmp_path, verify=True)
