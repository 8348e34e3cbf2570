"""Exports to ONNX behind HTTP: their own probabilities, and no torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from conftest import Run
from exported import TEXTS, opened_gpt
from services import service

from gpt_classifier import TextClassifier
from gpt_classifier.errors import UserError
from gpt_classifier.evaluation.profile import Profile
from gpt_classifier.export.onnx import export
from gpt_classifier.serving.drift import FEWEST
from gpt_classifier.serving.served import Served
from gpt_classifier.serving.settings import Settings
from gpt_classifier.spec import sha256_of

WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = sys.modules["lightning"] = sys.modules["pandas"] = sys.modules["transformers"] = None
from pathlib import Path
from starlette.testclient import TestClient
from gpt_classifier.serving.application import create
from gpt_classifier.serving.served import Served
from gpt_classifier.serving.settings import Settings
from gpt_classifier.serving.supervisor import measure_profile
folder, texts = Path(sys.argv[1]), json.loads(sys.argv[2])
settings = Settings(str(folder), folder)
measure_profile(settings)
with TestClient(create(settings, Served.open(folder, settings))) as client:
    print(json.dumps([client.post("/predict", json={"texts": texts}).json(), client.get("/info").json()]))
"""


@pytest.mark.parametrize(("int8", "precision"), [(False, "32-true"), (True, "int8")])
def test_export_is_served_without_torch_with_its_own_probabilities(int8: bool, precision: str, tmp_path: Path) -> None:
    folder = tmp_path / "spam-onnx"
    export(opened_gpt(tmp_path / "spam"), folder, int8)
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder), json.dumps(TEXTS)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    said, info = json.loads(told.stdout.splitlines()[-1])
    expected = TextClassifier.load(folder)
    for one, row in zip(said["predictions"], expected.predict_proba(TEXTS).tolist(), strict=True):
        assert one["probabilities"] == pytest.approx(dict(zip(expected.classes_.tolist(), row, strict=True)), abs=1e-6)
    assert said["model"] == "spam-onnx"
    assert said["model_version"] == sha256_of(folder)[:12]
    assert (info["precision"], info["device"]) == (precision, "cpu")
    assert info["validation_messages"] is None


def test_export_of_a_run_knows_its_validation_messages(train: Callable[..., Run], tmp_path: Path) -> None:
    run = train("trainer.max_epochs=1")
    folder = tmp_path / "spam-onnx"
    export(TextClassifier.load(run.folder / "checkpoints" / "best.ckpt"), folder)
    texts = run.texts("val")
    profile = Profile.read(folder, sha256_of(folder))
    assert profile is not None
    assert profile.messages == len(texts)
    with service(folder) as client:
        client.post("/predict", json={"texts": texts * (FEWEST // len(texts) + 1)})
        page = client.get("/metrics").text
    assert page.count("gpt_classifier_drift{") == 3


def test_export_has_a_precision_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "spam-onnx"
    export(opened_gpt(tmp_path / "spam"), folder)
    with pytest.raises(UserError, match=r"precision: expected 32-true, but it is bf16-mixed: .* is an export to ONNX"):
        Served.open(folder, Settings(str(folder), folder, precision="bf16-mixed"))
