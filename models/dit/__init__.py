"""Diffusion transformers of images and videos."""
