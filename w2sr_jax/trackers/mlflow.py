"""MLflow (`pip install w2sr-jax[mlflow]`). A server's password or token is MLflow's own: MLFLOW_TRACKING_USERNAME,
MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN."""

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from w2sr_jax.core.errors import UserError
from w2sr_jax.trackers.secrecy import holds_secret
from w2sr_jax.trackers.tracker import State, TrackedTraining

_ENDED: Mapping[State, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_TAG = "w2sr.training"
_LONGEST, _AT_ONCE = 500, 100  # of a parameter's value, in characters; parameters in one request


@dataclasses.dataclass(frozen=True)
class Mlflow:
    """Each training is a run of an MLflow experiment."""

    experiment: str = "w2sr"
    """Experiment of the runs; it is made where there is none."""
    uri: str = ""
    """Server (https://…) or, offline, data base (sqlite:///FILE); empty: as MLFLOW_TRACKING_URI says."""

    package: ClassVar[str] = "mlflow"

    def __post_init__(self) -> None:
        if holds_secret(self.uri):
            raise UserError(
                "a tracker's uri holds a user, a password or a query, and would be saved with the run; give the bare address, "
                "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )

    def __call__(self, training: TrackedTraining) -> "_Run":
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers, and wait for them
        from mlflow import MlflowClient
        from mlflow.entities import Param

        # Models are not registered; without a store of its own the client would want one in the data base.
        client = MlflowClient(self.uri or None, registry_uri=training.directory.as_uri())
        experiment = client.get_experiment_by_name(self.experiment)
        number = client.create_experiment(self.experiment) if experiment is None else experiment.experiment_id
        before = client.search_runs([number], f"tags.`{_TAG}` = '{training.id}'", max_results=1) if training.resumed else []
        if before:
            client.update_run(before[0].info.run_id, "RUNNING")
            run = before[0].info.run_id
            return _Run(client, run, max((each.step for each in client.get_metric_history(run, "train/loss")), default=-1))
        tags = {_TAG: training.id, "w2sr.run": training.run, "w2sr.stage": training.stage}
        run = client.create_run(number, tags=tags, run_name=f"{training.run}/{training.stage}").info.run_id
        params = [Param(name, str(value)[:_LONGEST]) for name, value in training.settings.items()]
        for first in range(0, len(params), _AT_ONCE):
            client.log_batch(run, params=params[first : first + _AT_ONCE])
        return _Run(client, run, None)


class _Run:
    def __init__(self, client: Any, run: str, reached: int | None) -> None:
        self._client, self._run, self.reached = client, run, reached

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def end(self, state: State) -> None:
        self._client.set_terminated(self._run, _ENDED[state])
