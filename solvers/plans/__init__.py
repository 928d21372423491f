"""Runs as lists of legs: made, cut, begun from a clip, and played by the only loop."""
