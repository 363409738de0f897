"""The shapes of device meshes and how processes find each other. No jax."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mesh:
    """How devices are arranged. A batch is split over data × fsdp, parameters over fsdp × tensor. `Mesh()` leaves it all to the
    size of the model and the number of devices."""

    data: int = -1
    """Copies of the model; -1: all devices that the other two leave."""
    fsdp: int = 0
    """Devices over which each copy's parameters are split along the model's width; 0: as few as its size asks for."""
    tensor: int = 0
    """Devices over which heads, SwiGLU and vocabulary are split; 0: as few as the model's size asks for."""


@dataclass(frozen=True)
class Meshes:
    """How devices are arranged for each use of a model. `Mesh()`: as the experiment says, or as the model's size asks for."""

    training: Mesh = Mesh()
    """While it is trained."""
    reference: Mesh = Mesh()
    """While the distributions of the frozen models of its loss are stored (`training.reference_top`); `Mesh()`: as `training`."""
    decoding: Mesh = Mesh()
    """While it writes traces."""
    evaluation: Mesh = Mesh()
    """While it is evaluated, and while a probe looks at it; `Mesh()`: as `decoding`."""


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
