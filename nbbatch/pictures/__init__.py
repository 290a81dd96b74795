"""Drawn and written pictures of jobs, runs and chunks: SVG, plain HTML and text that need no network and no script.

Pure functions of plain facts: nothing here reads a store, a clock or a widget. `nbbatch.scenes` supplies the facts.
"""
