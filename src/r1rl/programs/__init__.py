"""Runs programs that a model wrote, isolated from everything else.

``types`` has what every back end takes and returns; ``pool:Pool(workers, limits)`` is the one on this machine.
"""
