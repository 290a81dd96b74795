"""A laboratory: random chains, killed at random and at commits, with what a user does between; see `__main__`."""
