"""Debug a run and heal it: what failed and why, the same chunk once more, only what has to run again.

Each module reads the store, or gives the dispatcher one change to make; `handle` and `chunk` are its face.
"""
