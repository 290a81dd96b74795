"""What every room knows: states, errors, rows, times, and how things are displayed. Imports no other room."""
