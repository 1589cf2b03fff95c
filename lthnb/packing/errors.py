"""The error of this folder."""


class PackingError(ValueError):
    """A ticket that cannot be packed, or a file that is none: what was found, what was expected."""
