"""Does the label depend on the padding? Look at a classifier that was fine-tuned as the book's chapter does it.

python scripts/examine.py --weights review_classifier.pth
python scripts/examine.py --weights outputs/…/checkpoints/best.ckpt --model gpt2-nano data.path=SMSSpamCollection
"""

import argparse
from pathlib import Path

from gpt_classifier.config import compose, readable_exit
from gpt_classifier.errors import UserError

CONF = Path(__file__).resolve().parents[1] / "conf"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        cfg = compose(CONF, [f"model={options.model}", "experiment=book/chapter", *options.overrides])
        path = options.weights.expanduser()
        if not path.is_file():
            raise UserError(f"--weights: there is no file {path}.")
        from gpt_classifier.device import best_device
        from gpt_classifier.inference.padding import study_padding
        from gpt_classifier.training.build import load_data
        from gpt_classifier.training.figures import padding

        data = load_data(cfg)
        if data.pad_to == "batch":
            raise UserError("data.pad_to: expected train, context or a number of tokens to pad to, but it is batch.")
        model = load(path, cfg, len(data.class_names)).to(best_device())
        longest = int(data.pad_to)
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
        padding(accuracy, changed, len(dataset)).savefig(options.out / "padding.png", dpi=150)
        print(f"\npadding.csv and padding.png are in {options.out}")


def load(path: Path, cfg, num_classes: int):  # type: ignore[no-untyped-def] # torch is imported late
    """The classifier of a state dict in the book's naming, or of a checkpoint of this project."""
    from hydra.utils import instantiate

    from gpt_classifier.inference.text_classifier import TextClassifier
    from gpt_classifier.model.classifier import GPTClassifier
    from gpt_classifier.model.pretrained import load_backbone

    if path.suffix == ".ckpt":
        classifier = TextClassifier.from_checkpoint(path, precision="32-true")
        model, tokenizer = classifier.model, classifier.spec["tokenizer"]
        if tokenizer != cfg.model.tokenizer:
            raise UserError(f"--model: {path} reads the tokens of {tokenizer}, not of {cfg.model.tokenizer}.")
    else:
        backbone, head = load_backbone(instantiate(cfg.model.backbone), path)
        if not head:
            raise UserError(f"--weights: {path} has no head for classes; it is a language model, not fine-tuned yet.")
        model = GPTClassifier(backbone, instantiate(cfg.pooling), num_classes)
        if head["weight"].shape[0] != num_classes:
            raise UserError(f"--weights: {path} has {head['weight'].shape[0]} classes, but the data has {num_classes}.")
        model.head.load_state_dict(head)
    if not model.causal:
        raise UserError(f"--weights: {path} was trained without a causal mask, so it is another model at each padding.")
    return model.requires_grad_(False).eval()


if __name__ == "__main__":
    main()
