"""``python -m tests.mutants [--sample 300] [--seed 1] [--jobs 2]``: a mutation run over the engine and the store.

    cosmic-ray's mutations ──▶ those that change code ──▶ a sample by seed ──▶ each in a copy of the project,
    against the tests that cover its line, until one fails

What is known is kept in ``.mutants/``: which lines each test reaches, until the package or the test's file changes, and
which mutants were killed. So a second run tries only the survivors of the first, with the tests that were added.
"""

from __future__ import annotations

from tests.mutants.command import main

if __name__ == "__main__":
    main()
