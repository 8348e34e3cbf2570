"""Compare checkpoints with each other, and with scikit-learn's classifiers, on the same test messages.

python scripts/compare.py --checkpoints outputs/…/best.ckpt outputs/…/best.ckpt --baselines
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_classifier.config import readable_exit
from gpt_classifier.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from gpt_classifier import TextClassifier

CONF = Path(__file__).resolve().parents[1] / "conf"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs="+", default=["latest"], help="best.ckpt of runs, or latest (default)")
    parser.add_argument("--outputs", default="outputs", help="where latest looks for runs (default: outputs)")
    parser.add_argument("--baselines", action="store_true", help='scikit-learn too: pip install -e ".[compare]"')
    parser.add_argument("--data", nargs="+", default=[], help="other messages than the first run's, as Hydra overrides")
    parser.add_argument("--out", type=Path, default=Path("outputs/comparison"), help="default: outputs/comparison")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        import numpy as np

        from gpt_classifier.inference import baselines, comparison, messages
        from gpt_classifier.inference.text_classifier import TextClassifier, find_checkpoint

        paths = [find_checkpoint(name, Path(options.outputs)) for name in options.checkpoints]
        frame = messages.labelled(paths[0], options.data, CONF)
        parts = {split: frame[frame["split"] == split] for split in ("train", "val", "test")}
        texts, labels = parts["test"]["text"].tolist(), parts["test"]["label"].tolist()
        classes = sorted(set(frame["label"]))
        contenders = []
        for path in dict.fromkeys(paths):
            classifier = TextClassifier.from_checkpoint(path)
            if sorted(classifier.classes_) != classes:
                raise UserError(
                    f"--checkpoints: {path} knows the classes {', '.join(classifier.classes_[:10])}, but the messages "
                    f"have {', '.join(classes[:10])}. Compare classifiers of the same classes."
                )
            order = [classifier.classes_.tolist().index(name) for name in classes]
            seen = messages.seen_in_training(path, texts)
            contenders.append(
                comparison.ask(
                    path.parent.parent.name or str(path),
                    texts,
                    classes,
                    classifier.predict,
                    partial(ordered, classifier, order),
                    sum(p.numel() * p.element_size() for p in classifier.model.parameters()) / 1e6,
                    f"{seen} of the test texts were in its training" if seen else "",
                )
            )
            if classifier.note:
                print(classifier.note)
        if options.baselines:
            train, val = ((parts[name]["text"].tolist(), parts[name]["label"].tolist()) for name in ("train", "val"))
            for baseline in baselines.fit_baselines(train, val):
                contenders.append(comparison.of_baseline(baseline, texts, classes))
        truth = np.array([classes.index(label) for label in labels])
        lines = comparison.compare(contenders, truth, len(classes))
        sentence, table = comparison.verdict(lines), comparison.table(lines)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "comparison.md").write_text(f"{sentence}\n\n{table}\n", encoding="utf-8")
        print(f"{sentence}\n\n{table}\n\nThis is also in {options.out / 'comparison.md'}")


def ordered(classifier: "TextClassifier", order: list[int], texts: "Sequence[str]") -> "np.ndarray":
    """Probabilities with the columns in another order."""
    return classifier.predict_proba(texts)[:, order]


if __name__ == "__main__":
    main()
