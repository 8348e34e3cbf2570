"""A classifier's HTML page in Chromium against Python in float32: labels, probabilities, milliseconds a text.

python benchmarks/html_page.py outputs/…/checkpoints/best.ckpt texts.csv
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from gpt_classifier import TextClassifier
from gpt_classifier.export.html import FILE, export

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from chromium import Page

CHUNK = 200  # texts that the browser is asked for at once
CLASSIFY = """
(async () => {
  const classifier = await ready, found = [], start = performance.now();
  for (const text of TEXTS) found.push((await classifier.classify(text)).probabilities);
  return {found, milliseconds: performance.now() - start};
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("texts", type=Path, help="a CSV with a column text")
    options = parser.parse_args()
    classifier = TextClassifier.load(options.checkpoint, device="cpu", precision="32-true")
    texts = pd.read_csv(options.texts, keep_default_na=False)["text"].tolist()
    found, milliseconds = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        export(classifier, Path(folder))
        size = (Path(folder) / FILE).stat().st_size
        with Page(Path(folder) / FILE, Path(folder) / "profile", width=390) as page:
            for start in range(0, len(texts), CHUNK):
                answer = page.run(CLASSIFY.replace("TEXTS", json.dumps(texts[start : start + CHUNK])))
                found += answer["found"]
                milliseconds += answer["milliseconds"]
    expected = classifier.predict_proba(texts)
    differ = int((expected.argmax(axis=1) != np.array(found).argmax(axis=1)).sum())
    print(f"{size / 1e6:.1f} MB; {len(texts):,} texts, {milliseconds / len(texts):.0f} ms each; {differ} labels differ")
    print(f"largest difference in probability: {np.abs(expected - found).max():.1e}")


if __name__ == "__main__":
    main()
