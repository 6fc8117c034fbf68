"""Rollouts from vLLM: colocated or served, its weights sent after every update and checked against the learner.

``weights`` and ``carriers`` move weights, ``worker`` receives them inside vLLM, ``check`` compares the two sides,
``colocate`` and ``pool`` are the engines. Only ``worker`` and ``colocate`` import vLLM: a trainer whose servers run
elsewhere does without it.
"""
