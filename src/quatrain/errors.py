"""The one exception that means: the user can mend this."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """A mistake of the user's: one line that names the thing, the value and the way out (exit code 2)."""


def unknown(kind: str, value: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is none of the known ones, with the nearest of them."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UsageError(f"there is no {kind} {value!r}: {hint}known: {', '.join(names)}")
