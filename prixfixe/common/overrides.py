"""Settings as a user types them: SETTING=VALUE for Hydra, in a shell."""

from __future__ import annotations

import re
import shlex

# what Hydra takes for text without quotes, and for the text that it is; a path that begins with a digit is quoted
PLAIN = re.compile(r"[A-Za-z_/][\w/\-+.@%]*", re.ASCII)
OTHER = re.compile(r"true|false|null|[+-]?(inf|nan)", re.IGNORECASE)  # what it takes for something else


def override(setting: str, value: object) -> str:
    """What to type in a shell to give a setting a text, whatever signs are in it: `dataset.path=promoters.tsv`,
    `'dataset.expression="log2(RNA/DNA)"'`."""
    text = quoted(str(value), quote='"')  # which a shell's own quotes take as they are
    return shlex.quote(f"{setting}={text}")


def quoted(value: str, quote: str = "'") -> str:
    """A text as Hydra's overrides take it: as it is where it is nothing else to Hydra, or else in quotes."""
    if PLAIN.fullmatch(value) and not OTHER.fullmatch(value):
        return value
    # an interpolation is escaped, the backslashes before it doubled
    literal = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value)
    escaped = re.sub(rf"(\\*)({quote}|\Z)", lambda match: match[1] * 2 + (f"\\{quote}" if match[2] else ""), literal)
    return f"{quote}{escaped}{quote}"
