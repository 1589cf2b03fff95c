"""Runs on disk.

`files` writes all or nothing and tells a torn file from a good one. `records` is what one training
came to, as one row of plain columns. `results` reads the recorded tables, `adding` writes them;
`runs` is the store of one's own runs, which finish, stop and go on.
"""
