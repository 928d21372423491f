"""What a step of a solver is, and every step there is."""
