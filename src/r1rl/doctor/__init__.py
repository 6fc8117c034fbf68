"""Diagnoses a run before it starts (does it fit in memory?) and after (why does it not learn?)."""
