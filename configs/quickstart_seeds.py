"""The quickstart with three seeds (weights, order, sampling; the problems stay the same); the report pools them.

    w2sr run configs/quickstart_seeds.py

Hardware: 2 CPU cores, 3 GiB of memory; three times the quickstart's minutes.
"""

import dataclasses

from quickstart import experiment as quickstart

from w2sr_jax.experiment import Experiment


def experiment() -> Experiment:
    return dataclasses.replace(quickstart(), name="quickstart-seeds", seeds=(0, 1, 2))
