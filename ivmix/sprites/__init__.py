"""The embedded pair: a procedural world with exact ground truth, the recipe that trains on it, its measurement."""
