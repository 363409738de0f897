"""What is trained, whatever it learns from: a student with its compiled step, its initial parameters and the frozen models beside
it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh

from w2sr_jax.losses.inputs import INITIAL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import batch_sharding
from w2sr_jax.parallel.processes import put
from w2sr_jax.training.digest import comparable, params_digest
from w2sr_jax.training.frozen import FrozenModel
from w2sr_jax.training.preconditions import check_fit
from w2sr_jax.training.program import Compiled
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.state import Metrics, TrainState
from w2sr_jax.training.watchdog import LossLevel

CheckBase = Callable[[Any, Callable[[str], None]], None]
"""Looks at the frozen base of a training that begins, and warns."""


@dataclasses.dataclass
class Initial:
    """The initial parameters, which are held until the training has begun, and their digest."""

    params: Any
    digest: str

    def digest_like(self, like: str) -> str:
        return self.digest if not like or comparable(self.digest, like) else params_digest(self.params, like)

    def release(self) -> Any:
        params, self.params = self.params, None
        return params


@dataclasses.dataclass(frozen=True)
class Student:
    """A student and how it is trained; `seed` draws adapters, `others` are the frozen models besides the initial one."""

    model: ModelConfig
    lora: Lora
    seed: int
    mesh: Mesh
    compiled: Compiled
    initial: Initial
    others: Mapping[str, FrozenModel]

    def parameters(self, name: str, layout: Any) -> Any:
        """Of one of `others`, on the mesh."""
        params = self.others[name].parameters()
        check_fit(self.others[name].config, params, f"the parameters of the model {name!r}")
        return put(params, layout)


class StudentProgram:
    """Satisfies `Program`. `check_base` looks at the frozen base of adapters before the first step."""

    def __init__(self, student: Student, loss_level: LossLevel | None, check_base: CheckBase | None = None) -> None:
        self._student, self._check_base = student, check_base
        self._frozen: dict[str, Any] = {}
        self.state = student.compiled.like
        self.loss_level = loss_level
        # `fit` counts `tokens`; named here, it comes before `adapter` in the lineage's file, whose bytes are digested.
        self.lineage: dict[str, Any] = {"model": dataclasses.asdict(student.model), "tokens": 0}
        if student.lora.rank:
            self.lineage["adapter"] = dataclasses.asdict(student.lora)

    def initial_digest(self, like: str = "") -> str:
        return self._student.initial.digest_like(like)

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        student, compiled = self._student, self._student.compiled
        freezing = INITIAL in compiled.frozen
        initial = student.initial.release()
        if restored is None or freezing:
            initial = put(initial, compiled.params)
        if freezing:
            self._frozen[INITIAL] = compiled.freeze(initial)
        state = compiled.fresh(initial, student.seed) if restored is None else restored
        del initial  # a quantised base takes its place, unless the caller keeps it
        if restored is None and student.lora.rank and self._check_base is not None:
            self._check_base(self._frozen[INITIAL], hooks.warn)
        for name, layout in compiled.frozen.items():
            if name != INITIAL:
                self._frozen[name] = student.parameters(name, layout)
        return state

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        rows = put(batch, batch_sharding(self._student.mesh))
        return self._student.compiled.step(state, rows, self._frozen or None)

    def whole(self, params: Any) -> Any:
        return self._student.compiled.whole(params, self._frozen.get(INITIAL))
