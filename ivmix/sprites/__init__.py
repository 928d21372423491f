"""The embedded pair: a procedural world with exact ground truth, what is measured of its clips, how it is trained."""
