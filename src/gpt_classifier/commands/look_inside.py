"""Look inside a classifier at one message: where it attends, and after which token its answer tips.

gpt-classifier look-inside --checkpoint latest --text 'You have been selected to receive $1000'
"""

import argparse
from pathlib import Path

from gpt_classifier.commands.arguments import add_checkpoint, arguments_of, import_modules
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import UserError, expect_number, printable


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("look-inside", __doc__)
    add_checkpoint(parser)
    parser.add_argument("--text", required=True, help="the message")
    parser.add_argument("--layer", type=int, help="attention of one layer, from 1 (default: all)")
    parser.add_argument("--head", type=int, help="of one head, from 1 (default: all)")
    parser.add_argument("--max-tokens", type=int, default=128, help="of the attention maps (default: 128)")
    parser.add_argument("--out", type=Path, default=Path("outputs/inside"), help="folder (default: outputs/inside)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        expect_number("--max-tokens", options.max_tokens, 1, whole=True)
        from gpt_classifier.checkpoints import find_checkpoint
        from gpt_classifier.device import prepare_process
        from gpt_classifier.evaluation import pictures
        from gpt_classifier.figures import save
        from gpt_classifier.inference import inside
        from gpt_classifier.inference.predictor import Predictor

        prepare_process()
        import_modules(options.modules)
        path = find_checkpoint(options.checkpoint, options.outputs)
        predictor = Predictor.open(path, weights=options.weights, verify=options.verify)
        tokens, weights = inside.attention(predictor, options.text, options.max_tokens)
        layers = chosen("--layer", options.layer, weights.shape[0])
        heads = chosen("--head", options.head, weights.shape[1])
        maps = [(layer, head) for layer in layers for head in heads]
        figure = pictures.attention_maps(tokens, weights, maps, len(heads), 1.3 if len(maps) > 12 else 2.6)
        save(figure, options.out / "attention.png")
        names = predictor.classes
        try:
            traced = inside.trace(predictor, options.text)
        except UserError as error:
            print(error)
        else:
            save(pictures.tipping(traced.tokens, traced.probabilities, names), options.out / "tokens.png")
            for token, probabilities in zip(traced.tokens, traced.probabilities, strict=True):
                best = int(probabilities.argmax())
                print(f"{printable(names[best]):<12} {probabilities[best]:.4f}  {token!r}")
        print(f"the pictures are in {options.out}")


def chosen(option: str, number: int | None, most: int) -> list[int]:
    if number is None:
        return list(range(most))
    expect_number(option, number, 1, most, whole=True)
    return [number - 1]
