"""Looks at a run before it starts (does it fit?) and after (why does it not learn?)."""
