"""From a prompt to the features that a network is told: tokenizer, weights of words, encoder."""
