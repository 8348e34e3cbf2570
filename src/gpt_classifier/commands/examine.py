"""Measure how predictions depend on padding, for a classifier that was fine-tuned as in the book's chapter.

gpt-classifier examine --weights review_classifier.pth
gpt-classifier examine --weights outputs/…/checkpoints/last.ckpt --model gpt2-nano data.path=SMSSpamCollection
"""

import argparse
from pathlib import Path

from gpt_classifier.atomic import write_text
from gpt_classifier.commands.arguments import add_model, add_overrides, arguments_of
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.config import compose
from gpt_classifier.errors import UserError, option_group


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("examine", __doc__)
    parser.add_argument(
        "--weights", type=Path, required=True, help="a state dict of the book's GPTModel, or a run's checkpoint"
    )
    add_model(parser)
    parser.add_argument("--out", type=Path, default=Path("outputs/examine"), help="folder (default: outputs/examine)")
    add_overrides(parser, "Hydra overrides, such as data.path=SMSSpamCollection")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        chosen = [f"model={options.model}", "experiment=book/chapter", *options.overrides]
        cfg = compose(chosen, config_dir=options.config_dir)
        path = options.weights.expanduser()
        if not path.is_file():
            raise UserError(f"--weights: there is no file {path}.")
        from gpt_classifier.book.padding import picture, study_padding
        from gpt_classifier.device import best_device, prepare_process
        from gpt_classifier.figures import save
        from gpt_classifier.training.build import load_data

        prepare_process()
        data = load_data(cfg)
        if data.pad_to == "batch":
            raise UserError("data.pad_to: expected train, context or a number of tokens, but it is batch.")
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
            f"padding; the label of {study.unstable()} changes at some padded length"
        )
        rows = [
            "tokens,accuracy,changed",
            *(f"{i + 1},{a},{c}" for i, (a, c) in enumerate(zip(accuracy, changed, strict=True))),
        ]
        write_text(options.out / "padding.csv", "\n".join(rows) + "\n")
        save(picture(accuracy, changed, len(dataset)), options.out / "padding.png")
        print(f"\npadding.csv and padding.png are in {options.out}")


def load(path: Path, cfg, class_names: list[str], longest: int):  # type: ignore[no-untyped-def] # torch is imported late
    """The classifier of a state dict in the book's naming, or of a checkpoint of this project."""
    from gpt_classifier.families import load_classifier
    from gpt_classifier.inference.predictor import Predictor
    from gpt_classifier.models.pooling import PaddedLastToken
    from gpt_classifier.tokenizers import load_tokenizer
    from gpt_classifier.training.build import backbone_config

    if path.suffix == ".ckpt":
        predictor = Predictor.open(path, precision="32-true")
        model, spec = predictor.model, predictor.spec
        if spec.tokenizer != load_tokenizer(cfg.model.tokenizer).state():
            raise UserError(f"--model: {path} reads other tokens than those of {cfg.model.tokenizer}.")
        if spec.task["classes"] != class_names:
            raise UserError(f"--weights: {path} knows {spec.task['classes']}, but the data has {class_names}.")
        if spec.pooling["name"] not in ("last_token", "padded_last_token"):
            raise UserError(
                f"--weights: {path} reads {spec.pooling['name']}; only one that reads a last token can be examined."
            )
    else:
        with option_group("model"):
            model = load_classifier(backbone_config(cfg), path, PaddedLastToken(), len(class_names), require_head=True)
    if longest > model.backbone.context:
        raise UserError(f"data.pad_to: {path} reads at most {model.backbone.context} tokens, not {longest}.")
    if not model.backbone.causal:
        raise UserError(f"--weights: {path} was trained without a causal mask, so padded lengths can not share a pass.")
    return model.requires_grad_(False).eval()
