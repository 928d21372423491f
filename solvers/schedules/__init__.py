"""What networks were trained on, t to sigma and back, and the grids of levels that a run visits."""
