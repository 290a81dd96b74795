"""The engine: one dispatcher thread that claims chunks, submits them to executors and commits what they return."""
