"""See and clear the kept activations of frozen blocks.

gpt-classifier cache            # what is there
gpt-classifier cache --clear    # remove all of it; training computes again what it needs
"""

import argparse
import shutil
import time
from pathlib import Path

from gpt_classifier.config import compose, readable_exit


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "gpt-classifier cache", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clear", action="store_true", help="remove what is listed")
    parser.add_argument("--unused-days", type=float, default=0.0, help="only what was not used for so many days")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as cache.dir=FOLDER")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        folder = Path(compose(options.overrides).cache.dir).expanduser()
        from gpt_classifier.training.frozen_prefix import list_cache

        before = time.time() - options.unused_days * 86_400
        entries = [entry for entry in list_cache(folder) if entry.last_used <= before]
        for entry in entries:
            key = entry.key
            what = "unknown"
            if key:
                sizes = key["backbone"]
                what = f"{sizes['n_layer']} x {sizes['n_embd']}, depth {key['depth']}, {key['dtype']}"
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
            print(f"{entry.folder.name}  {1000 * entry.gb:9.1f} MB  last used {used}  {what}")
            if options.clear:
                shutil.rmtree(entry.folder)
        done = "removed from" if options.clear else "in"
        print(f"{len(entries)} entries, {1000 * sum(entry.gb for entry in entries):.1f} MB {done} {folder}")
