"""Where completions come from: the engine protocol, the engines, and the collector."""
