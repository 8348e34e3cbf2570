"""docs/extending.md does what it says."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import ROOT

from gpt_classifier import TextClassifier, families, tasks, tokenizers

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's code as the module that it speaks of, and its configuration as a user's folder."""
    monkeypatch.chdir(tmp_path)
    for registry in (families.FAMILIES, tokenizers.TOKENIZERS, tasks.TASKS):
        for name in list(registry):
            monkeypatch.setitem(registry, name, registry[name])
    for registry, name in (
        (families.FAMILIES, "averaging"),
        (tokenizers.TOKENIZERS, "bytes"),
        (tasks.TASKS, "smoothed"),
    ):
        monkeypatch.setitem(registry, name, None)  # taken out again afterwards
    module = ModuleType("my_module")
    monkeypatch.setitem(sys.modules, "my_module", module)
    for code in blocks("python"):
        exec(compile(code, "docs/extending.md", "exec"), module.__dict__)
    names = ("pooling/attentive", "data/greetings", "model/averaging")
    for name, text in zip(names, blocks("yaml"), strict=True):
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return module


def test_everything_of_the_page_works_together(my_module: ModuleType, tmp_path: Path) -> None:
    from gpt_classifier.commands.train import main

    for run, overrides in {
        "nano": ["pooling=attentive", "data=greetings", "data.number=12", "task._target_=my_module.Smoothed"],
        "averaging": ["model=averaging", "data=greetings", "data.number=12", "freeze=last_block", "pooling=max"],
    }.items():
        base = ["model=gpt2-nano", "trainer=cpu", "trainer.max_epochs=2", "optimizer.lr=1e-2", "data.batch_size=4"]
        main(["--config-dir", str(tmp_path / "conf"), *base, *overrides, f"hydra.run.dir={tmp_path / run}"])
        best = tmp_path / run / "checkpoints" / "best.ckpt"
        classifier = TextClassifier.load(best, device="cpu")
        assert classifier.classes_.tolist() == ["de", "en"]
        assert classifier.predict(["hello 77", "hallo 88"]).shape == (2,)
        np.testing.assert_allclose(classifier.predict_proba(["hello"]).sum(), 1, atol=1e-5)


def test_backbone_of_the_page_passes_the_tests_of_backbones(
    my_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "models"))
    import test_backbone

    def averaging() -> torch.nn.Module:
        model = my_module.Averaging(my_module.AveragingConfig(vocab_size=50)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return model

    monkeypatch.setitem(test_backbone.BACKBONES, "page", averaging)
    test_backbone.test_any_two_steps_through_the_blocks_are_the_whole("page")
    test_backbone.test_one_position_alone_is_that_of_all("page")
    test_backbone.test_every_parameter_is_of_exactly_one_stage("page")
    test_backbone.test_a_stage_has_the_parameters_that_its_computation_uses("page")
    test_backbone.test_state_and_weights_are_all_of_it("page")
    assert os.getcwd() != str(ROOT)
