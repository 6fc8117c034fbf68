"""Names the packages of a distribution; everything else about it is in pyproject.toml.

setuptools finds packages below one folder only, and two of ours have their files elsewhere: see ``package-dir``.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages("src"), "r1rl_rewards", "r1rl.launch"])
