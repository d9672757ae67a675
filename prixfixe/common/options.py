"""Numbers that are typed as options of a command."""

from __future__ import annotations

import re
from collections.abc import Callable

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable

MOST = 10**9


def whole_number(option: str, advice: str, *, least: int = 0, most: int = MOST) -> Callable[[str], int]:
    """What argparse calls with the text of an option: gives its whole number, or raises InputError with the advice."""

    def parsed(text: str) -> int:
        digits = text.strip()
        if not re.fullmatch(r"[0-9]{1,10}", digits) or not least <= int(digits) <= most:
            raise InputError(f"{option} {printable(text, 40)}: {advice}")
        return int(digits)

    return parsed
