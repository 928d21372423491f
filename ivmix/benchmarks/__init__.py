"""Public benchmarks: their prompts and references as data, drawn, measured and reported beside what is published."""
