"""Does the label depend on the padding? Look at a classifier that was fine-tuned as the book's chapter does it.

gpt-classifier examine --weights review_classifier.pth
gpt-classifier examine --weights outputs/…/checkpoints/best.ckpt --model gpt2-nano data.path=SMSSpamCollection
"""

import argparse
from pathlib import Path

from gpt_classifier.config import compose, readable_exit
from gpt_classifier.errors import UserError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "gpt-classifier examine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", type=Path, required=True, help="a state dict of the book's GPTModel, or a run's best.ckpt"
    )
    parser.add_argument("--model", default="gpt2-small", help="a file of conf/model (default: gpt2-small)")
    parser.add_argument("--out", type=Path, default=Path("outputs/examine"), help="folder (default: outputs/examine)")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as data.path=SMSSpamCollection")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        cfg = compose([f"model={options.model}", "experiment=book/chapter", *options.overrides])
        path = options.weights.expanduser()
        if not path.is_file():
            raise UserError(f"--weights: there is no file {path}.")
        from gpt_classifier.book.padding import picture, study_padding
        from gpt_classifier.device import best_device
        from gpt_classifier.training.build import load_data

        data = load_data(cfg)
        if data.pad_to == "batch":
            raise UserError("data.pad_to: expected train, context or a number of tokens to pad to, but it is batch.")
        longest = int(data.pad_to)
        model = load(path, cfg, data.class_names, longest).to(best_device())
        print(f"{path}, padded to {longest} tokens and read at position -1, as the chapter does")
        for split, name in (("train", "training"), ("val", "validation"), ("test", "test")):
            dataset = data.datasets[split]
            study = study_padding(model, dataset.rows, dataset.labels, longest, data.pad_id)
            print(f"{name + ' accuracy':<20}{study.accuracy()[-1]:8.2%} of {len(dataset)} messages")
        accuracy, changed = study.accuracy(), study.changed()
        best = max(range(longest), key=accuracy.__getitem__)
        print(f"\ntest accuracy without padding {accuracy[0]:.2%}, padded to {longest} {accuracy[-1]:.2%}")
        print(f"best at {best + 1} tokens with {accuracy[best]:.2%}, worst {min(accuracy):.2%}")
        print(
            f"{changed[-1]} of {len(dataset)} test messages have another label padded to {longest} than without "
            f"padding; {study.unstable()} change theirs at some padding"
        )
        options.out.mkdir(parents=True, exist_ok=True)
        rows = [
            "tokens,accuracy,changed",
            *(f"{i + 1},{a},{c}" for i, (a, c) in enumerate(zip(accuracy, changed, strict=True))),
        ]
        (options.out / "padding.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        picture(accuracy, changed, len(dataset)).savefig(options.out / "padding.png", dpi=150)
        print(f"\npadding.csv and padding.png are in {options.out}")


def load(path: Path, cfg, class_names: list[str], longest: int):  # type: ignore[no-untyped-def] # torch is imported late
    """The classifier of a state dict in the book's naming, or of a checkpoint of this project."""
    from hydra.utils import instantiate

    from gpt_classifier.inference.text_classifier import TextClassifier
    from gpt_classifier.models.weights import load_classifier

    if path.suffix == ".ckpt":
        classifier = TextClassifier.from_checkpoint(path, precision="32-true")
        model, spec = classifier.model, classifier.spec
        if spec["tokenizer"] != cfg.model.tokenizer:
            raise UserError(f"--model: {path} reads the tokens of {spec['tokenizer']}, not of {cfg.model.tokenizer}.")
        if spec["class_names"] != class_names:
            raise UserError(f"--weights: {path} knows {spec['class_names']}, but the data has {class_names}.")
        if model.pooling.name not in ("last_token", "padded_last_token"):
            raise UserError(
                f"--weights: {path} reads {model.pooling.name}; only one that reads a last token can be examined."
            )
    else:
        config, pooling = instantiate(cfg.model.backbone), instantiate(cfg.pooling)
        model = load_classifier(config, path, pooling, len(class_names), cfg.model.causal, require_head=True)
    if longest > model.backbone.config.n_positions:
        raise UserError(f"data.pad_to: {path} reads at most {model.backbone.config.n_positions} tokens, not {longest}.")
    if not model.causal:
        raise UserError(f"--weights: {path} was trained without a causal mask, so it is another model at each padding.")
    return model.requires_grad_(False).eval()
