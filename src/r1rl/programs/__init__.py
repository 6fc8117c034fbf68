"""Runs programs that a model wrote, isolated from everything else.

``types`` has what every back end takes and returns; ``pool:SandboxPool(workers, limits)`` is the one on this machine.
"""
