"""Self-contained pages: a template, data as JSON, and at most one script, which the page's policy knows by its hash.

Nothing is fetched, and nothing in the data is ever markup.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


def rendered(
    template: str, script: str | None = None, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any
) -> str:
    """The page of a template (it extends `page.html`) with these values; the same values give the same bytes.

    `script`: a file beside the templates, the one script that the browser may run. What is no character (a stray
    surrogate) shows escaped.
    """
    environment = _environment(tuple((filters or {}).items()))
    code = "" if script is None else files("plainspoken.report").joinpath("templates", script).read_text("utf-8")
    known = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() if code else ""
    page = environment.get_template(template).render(script=Markup(code), script_hash=known, **values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


@lru_cache(maxsize=8)
def _environment(filters: tuple[tuple[str, Callable[..., Any]], ...]) -> jinja2.Environment:
    """Kept, as compiling a page's templates takes longer than filling them."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plainspoken.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment


def as_json(data: object) -> Markup:
    """JSON that may stand in a script element, whatever its strings hold: nothing in it ends that."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
