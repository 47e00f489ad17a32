"""Trackers that log comparisons to MLflow and to Weights & Biases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ragkit._extras import require

_SETTINGS = ("strategy", "model", "size", "seed")
_LONGEST = 5000  # characters of a value that all versions of MLflow accept


class MLflowTracker:
    """Log a comparison as a run of MLflow, with a nested run for each strategy, pool size and seed.

    The server is that of ``MLFLOW_TRACKING_URI``.
    """

    def __init__(self, experiment: str = "ragkit") -> None:
        """Log to an experiment, which is created if it does not exist."""
        require("mlflow")
        self.experiment = experiment

    def start(self, task: str, settings: Mapping[str, str]) -> None:
        """Begin the run, with the settings as its parameters."""
        from mlflow import MlflowClient

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(self.experiment)
        self._experiment = found.experiment_id if found else self._client.create_experiment(self.experiment)
        self._run = self._begin(task, settings, {})

    def log(self, row: Mapping[str, Any]) -> None:
        """Log a nested run whose metrics are the numbers of the row."""
        from mlflow.entities import Metric

        name = f"{row['strategy']}, pool {row['size']}, seed {row['seed']}"
        run = self._begin(name, {key: str(row[key]) for key in _SETTINGS}, {"mlflow.parentRunId": self._run})
        now = int(time.time() * 1000)
        self._client.log_batch(run, metrics=[Metric(key, value, now, 0) for key, value in _numbers(row).items()])
        if row["error"]:
            self._client.set_tag(run, "error", str(row["error"])[:_LONGEST])
        self._client.set_terminated(run, "FAILED" if row["error"] else "FINISHED")

    def finish(self, summary: Mapping[str, str] | None) -> None:
        """End the run, with the recommendation as tags."""
        for key, value in (summary or {}).items():
            self._client.set_tag(self._run, key, value[:_LONGEST])
        self._client.set_terminated(self._run, "KILLED" if summary is None else "FINISHED")

    def _begin(self, name: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> str:
        from mlflow.entities import Param

        run: str = self._client.create_run(self._experiment, run_name=name, tags=dict(tags)).info.run_id
        self._client.log_batch(run, params=[Param(key, value[:_LONGEST]) for key, value in parameters.items()])
        return run


class WandbTracker:
    """Log a comparison as a run of Weights & Biases, with charts by strategy and a table of all rows.

    The environment variables of W&B apply, such as ``WANDB_API_KEY`` and ``WANDB_MODE=offline``.
    """

    def __init__(self, project: str = "ragkit") -> None:
        """Log to a project."""
        require("wandb")
        self.project = project

    def start(self, task: str, settings: Mapping[str, str]) -> None:
        """Begin the run, with the settings as its configuration."""
        import wandb

        self._rows: list[dict[str, Any]] = []
        # A new run, because the program may have a run of its own, which must not be ended.
        self._run = wandb.init(project=self.project, name=task, config=dict(settings), reinit="create_new")
        self._run.define_metric("*", step_metric="size")

    def log(self, row: Mapping[str, Any]) -> None:
        """Log the numbers of the row under the name of its strategy."""
        measured = {f"{row['strategy']}/{key}": value for key, value in _numbers(row).items()}
        self._run.log({"size": row["size"], "seed": row["seed"], **measured})
        self._rows.append(dict(row))

    def finish(self, summary: Mapping[str, str] | None) -> None:
        """End the run, with the recommendation as its summary."""
        import wandb

        if self._rows:
            columns = list(self._rows[0])
            data = [[row[key] for key in columns] for row in self._rows]
            self._run.log({"rows": wandb.Table(columns=columns, data=data, allow_mixed_types=True)})
        self._run.summary.update(dict(summary or {}))
        self._run.finish(exit_code=1 if summary is None else 0)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the measured numbers of a row."""
    settings = {*_SETTINGS, "data_seed", "model_seed", "order_seed"}
    return {key: float(value) for key, value in row.items() if isinstance(value, int | float) and key not in settings}
