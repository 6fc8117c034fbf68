"""Rollouts from vLLM: colocated or served, its weights sent after every update and verified against the learner.

``colocate`` and ``pool`` are the engines. A pool's parts, each of which knows only those before it: ``work_queue``,
``fleet`` (the servers' states), ``weight_sync``, ``keeper`` and ``slots`` (the threads). ``weights``, ``carriers`` and
``vllm_carriers`` move weights, ``worker`` receives them inside vLLM, ``sync_check`` compares the two sides.
``arguments`` puts the configuration in vLLM's terms. Only ``worker``, ``colocate`` and ``vllm_carriers`` import vLLM,
when they are used: a trainer that sends by shared memory does without it.
"""
