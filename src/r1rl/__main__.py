"""``python -m r1rl`` is the command ``r1rl``."""

from r1rl.cli import main

if __name__ == "__main__":
    main()
