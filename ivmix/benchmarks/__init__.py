"""Public benchmarks: their prompts, files and videos, drawn and measured as they are published."""
