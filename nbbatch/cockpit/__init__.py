"""The live panel of a run: one widget, drawn from snapshots that cost the same however many chunks there are."""
