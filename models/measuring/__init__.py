"""Networks that measure clips, under their public files' names: I3D, video transformers, UMT's text and fusion."""
