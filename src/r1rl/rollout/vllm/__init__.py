"""Rollouts from vLLM: colocated or served, its weights sent after every update and verified against the learner.

``colocate`` and ``pool`` are the engines. A pool's parts, each of which knows only those before it: ``work_queue``,
``fleet`` (the servers' states), ``weight_sync``, ``keeper`` and ``slots`` (the threads). ``weights`` and ``carriers``
move weights, ``worker`` receives them inside vLLM, ``sync_check`` compares the two sides. Only ``worker`` and
``colocate`` import vLLM: a trainer whose servers run elsewhere does without it.
"""
