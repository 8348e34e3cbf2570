"""JSON that every reader takes."""

import json
import math
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Appears whole or not at all; what is not a number, as in a run that diverged, is `null`."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def without_nan(content: Any) -> Any:
    """Plain values with `None` for what is not a finite number, which JSON has no word for."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
