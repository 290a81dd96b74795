"""Everything that runs where user code runs: attempts, their context and capture, and the executors."""
