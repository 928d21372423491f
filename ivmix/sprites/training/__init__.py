"""How the embedded pairs are made: their networks, what each is shown, the recipe, and the loop that trains."""
