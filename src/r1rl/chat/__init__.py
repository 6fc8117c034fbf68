"""Talk to a model in the terminal, and hand it to others."""
