"""Networks as denoisers, and their symbolic combinations: what is integrated."""
