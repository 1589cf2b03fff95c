"""Ours beside its peers, measured in one run on one machine: ``python -m benchmarks --help``.

`plan.yaml` says what is measured; `record` is the layout of what comes out, `run` one run, `pool`
its workers, `worker` what runs in each peer's own environment; `adapters/` calls the peers' code,
`peers` gets them. What may be compared with what: README.md.
"""
