"""From prompts to clips and their records."""
