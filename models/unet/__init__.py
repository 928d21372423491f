"""The UNet of images and videos, its temporal layers, and views of it."""
