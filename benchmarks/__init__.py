"""Ours beside its peers, measured in one run on one machine: ``python -m benchmarks --help``.

`record` is the layout of what comes out, `rows` says what is measured, `pool` runs the workers,
`worker` is what runs in each peer's own environment, `adapters/` calls the peers' code, `peers`
gets them, and `__main__` is the command line. What may be compared with what: README.md.
"""
