"""Closed forms to compare with, and what zigzags do on grids that are not fine."""
