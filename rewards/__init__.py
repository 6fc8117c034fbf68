"""Reward functions that ship with r1rl, one file each; copy one to start your own."""
