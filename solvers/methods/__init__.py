"""One method a file, its equation on top: plans, fields, or both."""
