"""How tests let XLA compile for the CPU: on tiny models nearly all the time goes into compiling, not into what is compiled."""

QUICK = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")
"""No optimizations of LLVM, and loops as its older code generator writes them; together they compile in a third of the time."""


def devices(count: int) -> str:
    """`XLA_FLAGS` of a process with so many virtual CPU devices."""
    return " ".join([f"--xla_force_host_platform_device_count={count}", *QUICK])
