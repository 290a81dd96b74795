"""What a notebook shows live: the panel of a run, the overview of a batch, and the facts that pictures are drawn from."""
