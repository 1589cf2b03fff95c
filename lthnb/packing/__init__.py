"""A ticket as one file."""
