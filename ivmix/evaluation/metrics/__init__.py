"""Distances between sets of features, scores of frames, and how far a number can be trusted."""
