"""List or clear the cached activations of frozen blocks.

gpt-classifier cache                             # list: size, last use, and what they were computed with
gpt-classifier cache --clear                     # delete all of them; runs compute again what they need
gpt-classifier cache --clear --unused-days 30    # delete only what no run has used for 30 days
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from gpt_classifier.activations.cache_folder import CacheEntry, list_cache
from gpt_classifier.commands.arguments import arguments_of
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.paths import activations_folder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("cache", __doc__)
    parser.add_argument("--clear", action="store_true", help="delete what is listed")
    parser.add_argument("--unused-days", type=float, default=0.0, help="only what was not used for so many days")
    parser.add_argument(
        "--dir",
        type=Path,
        default=activations_folder(),
        metavar="FOLDER",
        help="the cache.dir of your runs, if you set it (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    try:
        _list(options.dir.expanduser(), options.unused_days, options.clear)
    except (Exception, KeyboardInterrupt):
        with readable_exit():
            raise


def _list(folder: Path, unused_days: float, clear: bool) -> None:
    before = time.time() - unused_days * 86_400
    entries = [entry for entry in list_cache(folder) if entry.last_used <= before]
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
        print(f"{entry.folder.name}  {1000 * entry.gb:9.1f} MB  last used {used}  {_describe(entry)}")
        if clear:
            entry.delete()
    done = "deleted from" if clear else "in"
    print(f"{len(entries)} entries, {1000 * sum(entry.gb for entry in entries):.1f} MB {done} {folder}")


def _describe(entry: CacheEntry) -> str:
    """What an entry's key says, of any backbone and any format."""
    key = entry.key
    parts = [f"{entry.messages} messages"]
    if isinstance(backbone := key.get("backbone"), dict) and "family" in backbone:
        parts.append(str(backbone["family"]))
    parts += [f"{name} {key[name]}" for name in ("depth", "width", "window") if name in key]
    parts += [str(key.get("stored") or key["dtype"])] if "dtype" in key else []
    return ", ".join(parts) if key else "unknown"
