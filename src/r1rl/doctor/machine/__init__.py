"""``r1rl doctor --machine``: proves on this machine, in minutes and without a download, that r1rl works here.

``checks`` is the table of everything that is tried, ``findings`` what a check says, ``run`` gives each check a process
and a deadline of its own, ``attempt`` is that process, ``command`` and ``report`` show and store the results. The other
modules hold the checks, one function each.
"""
