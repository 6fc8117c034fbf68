"""Names the packages of a distribution; everything else about it is in pyproject.toml.

setuptools finds packages below one folder only, and two of ours have their files elsewhere: see ``package-dir``.
"""

from setuptools import find_namespace_packages, setup

# Namespace packages too: folders of assets count as such.
below_src = find_namespace_packages("src", include=["r1rl", "r1rl.*"], exclude=["*.__pycache__"])
setup(packages=[*below_src, "r1rl_rewards", "r1rl.launch"])
