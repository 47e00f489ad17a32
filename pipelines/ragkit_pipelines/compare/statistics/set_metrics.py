"""The set-level metric of a comparison, also by the name that stored results have."""

from __future__ import annotations

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.metrics import AnyMetric, SetMetric, load_metric, name_of


def set_metric(metric: AnyMetric) -> SetMetric | None:
    """Return a metric if it is a set-level one, otherwise None."""
    if isinstance(metric, str) and ":" in metric:  # would open a database or load a judge; `Task` has done so
        return None
    loaded = load_metric(metric)
    return loaded if isinstance(loaded, SetMetric) else None


def stored_metric(name: str) -> SetMetric | None:
    """Return the set-level metric of stored results by its name; None for means of the scores.

    Raises:
        InvalidInputError: If the metric is not registered, such as an object that was passed to the task.
    """
    try:
        found = set_metric(name) if name else None
    except UnknownSpecError:
        found = None
    if name and found is None:
        raise InvalidInputError(
            f"the set-level metric {name!r} is not registered, so scores cannot be recomputed from stored answers; "
            "register it with ragkit.registry.register"
        )
    return found


def metric_name(metric: SetMetric | None) -> str:
    """Return the name of a set-level metric for stored results; empty for None."""
    return "" if metric is None else name_of(metric)


def set_title(name: str) -> str:
    """Return the usual spelling of a set-level metric, such as "macro-F1" for ``macro_f1``."""
    try:
        return str(getattr(stored_metric(name), "title", name))
    except InvalidInputError:
        return name
