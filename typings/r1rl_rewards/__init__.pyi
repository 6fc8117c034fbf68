# So that type checkers, which know no other name for a folder than its own, find rewards/ as r1rl_rewards.
