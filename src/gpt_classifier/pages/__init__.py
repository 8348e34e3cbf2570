"""HTML pages that need nothing beside them: what they have in common, and the template of each."""

from pathlib import Path
from typing import Any

import jinja2


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
