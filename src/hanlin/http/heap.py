"""Give memory back that large requests leave behind.

What the C library has got for a text of ten megabytes it keeps when the text is gone, and often the next one does not
fit there, because something small lies in it by then: a service that saw many would grow by several times their size.
"""

import ctypes

LARGE_BYTES = 1024 * 1024
SOON_S = 0.002
"""When to do it: once what was made of the request is gone, too."""

_KEPT_BYTES = 16 * 1024 * 1024  # at its end, for the next one: with pages got anew, ten megabytes take 6 ms more
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone; others keep less


def give_back() -> None:
    """Give the unused pages between what is in use back to the system; a tenth of a millisecond, seldom a whole one."""
    if _trim is not None:
        _trim(ctypes.c_size_t(_KEPT_BYTES))
