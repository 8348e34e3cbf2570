"""Compare checkpoints with each other, and with scikit-learn's classifiers, on the same test messages.

gpt-classifier compare --checkpoints outputs/…/best.ckpt outputs/…/best.ckpt --baselines
"""

import argparse
from pathlib import Path

from gpt_classifier.atomic import write_text
from gpt_classifier.commands.arguments import add_checkpoint, add_config_dir, arguments_of, import_modules
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import UserError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("compare", __doc__)
    add_checkpoint(parser, several=True)
    parser.add_argument("--baselines", action="store_true", help='scikit-learn too: pip install -e ".[compare]"')
    parser.add_argument("--data", nargs="+", default=[], help="other messages than the first run's, as Hydra overrides")
    parser.add_argument("--out", type=Path, default=Path("outputs/comparison"), help="default: outputs/comparison")
    add_config_dir(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        import numpy as np

        from gpt_classifier.checkpoints import find_checkpoint, shortest_name
        from gpt_classifier.data.prepare import text_hash
        from gpt_classifier.device import prepare_process
        from gpt_classifier.evaluation import baselines, comparison, messages
        from gpt_classifier.inference.predictor import Predictor

        prepare_process()
        import_modules(options.modules)
        paths = list(dict.fromkeys(find_checkpoint(name, options.outputs) for name in options.checkpoints))
        frame = messages.labelled(paths[0], options.data, whole=False, config_dir=options.config_dir)
        parts = {split: frame[frame["split"] == split] for split in ("train", "val", "test")}
        trained_on = set[str]().union(*map(messages.trained_on, paths))
        if options.baselines:
            trained_on |= set(parts["train"]["text"].map(text_hash))
        fresh = parts["test"][~parts["test"]["text"].map(text_hash).isin(trained_on)]
        left_out = len(parts["test"]) - len(fresh)
        if fresh.empty:
            raise UserError("Every test message is among those that a contender was trained on. Set --data to others.")
        texts, labels = fresh["text"].tolist(), fresh["label"].tolist()
        predictors = {path: Predictor.open(path, weights=options.weights, verify=options.verify) for path in paths}
        classes = predictors[paths[0]].classes
        contenders = []
        for path, predictor in predictors.items():
            if (known := predictor.classes) != classes or not set(labels) <= set(known):
                raise UserError(
                    f"--checkpoints: {path} knows the classes {', '.join(known[:10])}, but the others or the messages "
                    f"have {', '.join(sorted({*classes, *labels} - set(known))[:10]) or 'fewer'} too. Compare "
                    f"classifiers of the same classes."
                )
            contenders.append(
                comparison.ask(
                    shortest_name(path, paths),
                    texts,
                    classes,
                    predictor.predict,
                    predictor.predict_proba,
                    sum(tensor.nbytes for tensor in predictor.model.state_dict().values()) / 1e6,
                )
            )
            if predictor.note:
                print(predictor.note)
        if options.baselines:
            train, val = ((parts[name]["text"].tolist(), parts[name]["label"].tolist()) for name in ("train", "val"))
            for baseline in baselines.fit_baselines(train, val):
                print(baseline, flush=True)
                contenders.append(comparison.of_baseline(baseline, texts, classes))
        place = {name: i for i, name in enumerate(classes)}
        truth = np.array([place[label] for label in labels])
        lines = comparison.compare(contenders, truth, len(classes))
        sentence, table = comparison.verdict(lines), comparison.table(lines)
        if left_out:
            table += (
                f"\n\nOn {len(texts)} test messages; {left_out} more were left out, as a contender was trained on them."
            )
        write_text(options.out / "comparison.md", f"{sentence}\n\n{table}\n")
        print(f"{sentence}\n\n{table}\n\nThis is also in {options.out / 'comparison.md'}")
