"""Chat with a model in the terminal, and export it."""
