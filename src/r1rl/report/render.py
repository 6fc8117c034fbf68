"""HTML and SVG from the templates of this package: every value is escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from r1rl.tracking.console import visible


def render(template: str, **values: Any) -> str:
    """A file of ``report/templates`` with these values.

    HTML and control characters in texts are escaped; only :class:`markupsafe.Markup` is left as it is. The
    filter ``tojson`` writes JSON that cannot end the ``<script>`` element it stands in.

    Raises:
        ValueError: a value for ``tojson`` is not finite.
    """
    return _templates.get_template(template).render(**values)


def _plain(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_templates = Environment(
    loader=PackageLoader("r1rl.report"),
    autoescape=True,
    finalize=_plain,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
