"""The UNet of images and videos, its temporal layers, and what it costs."""
