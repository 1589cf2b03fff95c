"""The error of this folder."""

from lthnb.config import LthnbError


class PackingError(LthnbError, ValueError):
    """A ticket that cannot be packed, or a file that is none: what was found, what was expected."""
