"""Facts → SVG, HTML and text. Pure: no store, clock or widget, and the output needs no network or script."""
