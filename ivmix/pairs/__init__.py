"""Two models that share latents: their description, what stands in place of their own, and how they are loaded."""
