"""The one exception that means: the user can mend this."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class UsageError(Exception):
    """A mistake of the user's: one line that names the thing, the value and the way out (exit code 2)."""


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What keeps a file from being written that only the user can mend: space, quota, rights."""


def unwritable(error: OSError) -> UsageError | None:
    """Return the error for a file that there is no space for or no right to, None for any other trouble."""
    if error.errno not in UNWRITABLE:
        return None
    what = "opened" if error.errno in (errno.EACCES, errno.EPERM) else "written"
    return UsageError(f"{error.filename or 'a file of the run'} cannot be {what}: {error.strerror}")


def unknown(kind: str, value: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is none of the known ones, with the nearest of them."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UsageError(f"there is no {kind} {value!r}: {hint}known: {', '.join(names)}")
