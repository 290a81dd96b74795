"""What code a step is: type hints, signatures, fingerprints and source text."""
