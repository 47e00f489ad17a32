"""Log a comparison to an experiment tracker, which may fail without ending the comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, runtime_checkable

from ragkit._call_site import warn_caller
from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit.registry import create
from ragkit_pipelines.compare.frames import row_record
from ragkit_pipelines.compare.private import without_secrets
from ragkit_pipelines.compare.results import Results, Row

_AT_THE_END = ("at_floor", "label_cost")
_MOST_FAILURES = 3  # attempts at the end that fail one after the other before the rest is abandoned


@runtime_checkable
class Tracker(Protocol):
    """An experiment tracker, to which `compare` logs its results.

    A method that cannot send its record raises an exception, whose record is then sent again at the end.
    """

    def start(self, task: str, settings: Mapping[str, str]) -> None:
        """Begin a run for a comparison.

        Args:
            task: Name of the task.
            settings: Versions, hashes and settings, as in ``run.json``.
        """
        ...

    def log(self, row: Mapping[str, Any]) -> None:
        """Log the result of one strategy at one pool size and seed.

        Args:
            row: The columns of ``Comparison.to_pandas`` by name, except those that are only known at the end of the
                comparison: ``at_floor`` and ``label_cost``.
        """
        ...

    def finish(self, summary: Mapping[str, str] | None) -> None:
        """End the run.

        Args:
            summary: The recommendation and its evidence; None if the comparison was interrupted.
        """
        ...


def load_tracker(tracker: str | Tracker | None) -> Tracker | None:
    """Load a tracker from its spec; raises an error if it is not one."""
    loaded = create("tracker", tracker) if isinstance(tracker, str) else tracker
    if loaded is not None and not isinstance(loaded, Tracker):
        raise InvalidInputError(
            "`tracker` must be a spec such as 'mlflow' or 'wandb', or an object with the methods start, log and "
            f"finish; got {type(loaded).__name__}"
        )
    return loaded


class TrackedRun:
    """A run of a comparison that a tracker logs.

    Every attempt may have to wait until the tracker times out. After the first failure, records therefore wait until
    the end of the comparison, when all of them are sent again.
    """

    def __init__(self, tracker: Tracker | None, task: str, settings: Mapping[str, str]) -> None:
        """Begin the run; without a tracker, nothing is logged."""
        self._tracker, self._waiting = tracker, list[tuple[str, Callable[[], None]]]()
        self._error = ""
        if tracker is not None:
            self._send("settings", partial(tracker.start, task, dict(settings)))

    def log(self, row: Row) -> None:
        """Log a row."""
        if self._tracker is not None:
            title = f"{row.strategy}, pool {row.size}, seed {row.seed}"
            record = {key: value for key, value in row_record(row).items() if key not in _AT_THE_END}
            self._send(title, partial(self._tracker.log, record))

    def finish(self, results: Results) -> list[str]:
        """End the run, and send the records that wait; warn about those that are lost, and return them."""
        if self._tracker is None:
            return []
        chosen = results.recommendation
        summary = {"recommendation": chosen.strategy or "none", "evidence": chosen.evidence}
        lost, failures = list[str](), 0
        self._waiting.append(("recommendation", partial(self._tracker.finish, summary)))
        for name, send in self._waiting:
            if failures < _MOST_FAILURES and self._sent(send):
                failures = 0
            else:
                failures += 1
                lost.append(f"{name} ({self._error})")
        if lost:
            shown = "; ".join(lost[:3]) + (f"; and {len(lost) - 3} more" if len(lost) > 3 else "")
            warn_caller(
                RagkitWarning(
                    f"{len(lost)} of {len(results.rows) + 2} records could not be logged to the tracker: {shown}. "
                    "They are in the results; rerun the comparison with the same folder to log all of them again"
                )
            )
        return lost

    def interrupt(self) -> None:
        """End the run of a comparison that was interrupted; errors are ignored, because another one is raised."""
        if self._tracker is not None:
            self._sent(partial(self._tracker.finish, None))

    def _send(self, name: str, send: Callable[[], None]) -> None:
        if self._waiting or not self._sent(send):
            self._waiting.append((name, send))

    def _sent(self, send: Callable[[], None]) -> bool:
        try:
            send()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the comparison continues
            self._error = without_secrets(f"{type(error).__name__}: {error}")
            return False
        return True


@contextmanager
def tracked(tracker: Tracker | None, task: str, settings: Mapping[str, str]) -> Iterator[TrackedRun]:
    """Log a comparison within a block, and end the run if the block raises an error."""
    run = TrackedRun(tracker, task, settings)
    try:
        yield run
    except BaseException:
        run.interrupt()
        raise
