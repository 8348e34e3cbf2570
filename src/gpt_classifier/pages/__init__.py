"""HTML pages that need nothing beside them: what they have in common, and the template of each."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def render(name: str, **values: Any) -> str:
    """A page from its template, which extends `base.html`.

    Args:
        name: of the template, without `.html`.
        values: that the template names; texts are escaped, `Markup` is not. `base.html` takes `title`, `headline` and
            `notes`, what must be said first.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(f"{name}.html").render(values)


def script_hashes(page: str) -> str:
    """What a content security policy says of the scripts in a page, so that no other one runs: each by its hash."""
    digests = (hashlib.sha256(script.encode()).digest() for script in re.findall(r"<script>(.*?)</script>", page, re.S))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def as_json(content: Mapping[str, Any]) -> Markup:
    """JSON within a script element, where `</script>` or `<!--` in a class name would be read as HTML."""
    return Markup(json.dumps(content).replace("<", "\\u003c"))
