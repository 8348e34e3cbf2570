"""Every file of conf/ composes, and what it names exists."""

from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hydra.utils import instantiate
from lightning.pytorch.strategies import FSDPStrategy

from gpt_classifier.config import compose, quote_paths
from gpt_classifier.errors import UserError
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import LastToken
from gpt_classifier.sweeps.space import read_space
from gpt_classifier.training.build import resolve_precision

CONF = ROOT / "conf"
FILES = sorted(
    path.relative_to(CONF)
    for path in CONF.glob("*/*.yaml")
    if path.stem != "base" and path.parent.name not in ("hparams_search", "pretraining")
)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_composes_and_names_what_exists(file: Path) -> None:
    group, name = file.parts[0], file.stem
    needs_path = group == "data" and name in ("csv", "hf", "unlabelled")
    cfg = compose([f"{group}={name}", *(["data.path=x.csv"] if needs_path else [])])
    for part in (cfg.pooling, cfg.freeze, cfg.optimizer, cfg.get("scheduler"), cfg.data.source):
        if part:
            instantiate(part)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_pretraining_composes(name: str) -> None:
    cfg = compose([f"pretraining@optimizer={name}"], "pretrain")
    model = GPT(instantiate(cfg.model.backbone, n_layer=1)).initialise()
    optimizer = instantiate(cfg.optimizer)(model)
    assert instantiate(cfg.scheduler)(optimizer, total_steps=10).get_last_lr()[0] > 0


@pytest.mark.parametrize("path", sorted((CONF / "hparams_search").glob("*.yaml")), ids=lambda path: path.stem)
def test_searches_compose(path: Path) -> None:
    pytest.importorskip("optuna")
    cfg = compose([f"hparams_search={path.stem}"], "search")
    instantiate(cfg.hparams_search.sampler, seed=1)
    assert cfg.hparams_search.pruner is None or instantiate(cfg.hparams_search.pruner)
    assert read_space(cfg)


@pytest.mark.parametrize(("name", "millions"), [("small", 124), ("medium", 355), ("large", 774), ("xl", 1558)])
def test_models_have_the_published_number_of_parameters(name: str, millions: int) -> None:
    config = instantiate(compose([f"model=gpt2-{name}"]).model.backbone)
    with torch.device("meta"):
        model = GPT(config)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


def test_fsdp_shards_block_by_block() -> None:
    cfg = compose(["trainer=fsdp"])
    strategy = instantiate(cfg.trainer.strategy)
    assert isinstance(strategy, FSDPStrategy)
    with torch.device("meta"):
        model = Classifier(GPT(GPTConfig(n_layer=3, n_embd=24, n_head=2)), LastToken(), num_outputs=2)
    policy = strategy.kwargs["auto_wrap_policy"]
    own_unit = [module for module in model.modules() if policy(module, recurse=False, nonwrapped_numel=0)]
    assert own_unit == list(model.backbone.h)
    assert cfg.trainer.accelerator == "gpu"


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_automatic_precision_is_bf16_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("auto", "cpu", width=768) == expected
    assert resolve_precision("auto", "cpu", width=192) == "32-true"  # faster
    assert resolve_precision("16-mixed", "cpu") == "16-mixed"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert resolve_precision("auto", "auto") == expected


@pytest.mark.parametrize(("factor", "warned"), [(500.0, True), (1.5, False)])
def test_precision_that_a_cpu_only_emulates_is_said_with_its_cost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, factor: float, warned: bool
) -> None:
    monkeypatch.setattr("gpt_classifier.device.has_native_bf16", lambda device: False)
    monkeypatch.setattr("gpt_classifier.device.slowdown", lambda dtype: factor)
    assert resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"
    assert ("which take 500 times as long as in float32. 32-true is faster" in caplog.text) == warned
    caplog.clear()
    resolve_precision("32-true", "cpu")
    resolve_precision("bf16-mixed", "cuda")
    assert not caplog.records


@pytest.mark.parametrize(
    "path", ["~/a.csv", "reviews (1).csv", "für.csv", "[ab]*.csv", "a=b.csv", "a{1}.csv", "C:\\a.csv"]
)
def test_paths_need_no_quotation_marks_of_hydra(path: str) -> None:
    assert compose(["data=csv", f"data.path={path}"]).data.path == path


@pytest.mark.parametrize("name", ["文", "Größe", "stars (1-5)", "Was war gut?", "rating [%]", "text"])
def test_names_of_columns_need_no_quotation_marks_of_hydra(name: str) -> None:
    cfg = compose(["data=csv", f"data.label_column={name}", f"data.val_text_column={name}", f"data.sheet={name}"])
    assert [cfg.data.label_column, cfg.data.val_text_column, cfg.data.sheet] == [name] * 3


def test_what_is_written_for_hydra_is_left_alone() -> None:
    given = ["-m", "data.path=a.csv,b (1).csv", "data.path='a b'", "data.path=${run_dir}/a", "data.path=choice(a,b)"]
    assert quote_paths(given) == given
    assert quote_paths(["model=x(1)", "data.path="]) == ["model=x(1)", "data.path="]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "model=gpt2-nan",
            "model=gpt2-nan: conf/model has no such file. Did you mean gpt2-nano? There are: bert-base, ",
        ),
        ("experiment=book/nothing", "experiment=book/nothing: conf/experiment has no such file."),
        ("seeed=1", "Could not override 'seeed'. To append to your config use +seeed=1"),
    ],
)
def test_what_can_not_be_composed_is_told_in_one_line(override: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([override])
    assert str(caught.value).startswith(expected)
    assert "provider" not in str(caught.value)
    assert "\n" not in str(caught.value)
