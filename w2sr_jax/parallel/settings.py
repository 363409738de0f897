"""The shape of the device mesh and how processes find each other. No jax."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mesh:
    """How devices are arranged. A batch is split over data × fsdp, parameters over fsdp × tensor."""

    data: int = -1
    """Copies of the model; -1: all devices that the other two leave."""
    fsdp: int = 1
    """Devices over which each copy's parameters are split along the model's width."""
    tensor: int = 1
    """Devices over which heads, SwiGLU and vocabulary are split."""


@dataclass(frozen=True)
class Processes:
    """Several processes that form one run."""

    coordinator: str = ""
    """host:port of process 0; empty: one process, or what the cluster says with count 0."""
    count: int = 1
    """Number of processes; 0: ask the cluster (Slurm, a TPU pod, Kubernetes)."""
    index: int = 0
    """Which of them this one is."""
    timeout: int = 30
    """Seconds to wait for the others; processes that a cluster starts one after the other may need more."""
