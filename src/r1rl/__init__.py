"""r1rl: the whole DeepSeek-R1 recipe in one command."""

__version__ = "0.1.0"
