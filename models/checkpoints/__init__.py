"""Weights on disk and on the hub: every public layout, read key by key, or refused in one line."""
