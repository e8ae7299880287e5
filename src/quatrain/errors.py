"""UsageError, the exception for mistakes that the user can fix, and functions that create it."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class UsageError(Exception):
    """A mistake that the user can fix: one line that names the thing, the value and the fix (exit code 2)."""


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Error numbers of failed writes that only the user can fix: space, quota, permissions."""


def unwritable(error: OSError) -> UsageError | None:
    """Return the error for a file without disk space or permission; None for any other OSError."""
    if error.errno not in UNWRITABLE:
        return None
    what = "opened" if error.errno in (errno.EACCES, errno.EPERM) else "written"
    return UsageError(f"{error.filename or 'a file of the run'} cannot be {what}: {error.strerror}")


def unknown(kind: str, value: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name, with the most similar known name."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UsageError(f"there is no {kind} {value!r}: {hint}known: {', '.join(names)}")
