"""The best round of a run, and the end of a run whose score is high enough or rises no more.

Choosing by a score makes that score flatter, so settings refuse to choose by the test split or a held-out drive.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fedsim.settings.fields import Settings


def may_end_early(settings: Settings) -> bool:
    """Return whether a score may end the run before its last round."""
    return settings.stop_at is not None or settings.patience is not None


def why_it_ends(records: Sequence[Mapping[str, Any]], settings: Settings) -> str | None:
    """Return why a run ends with the latest record, as the end of a sentence.

    None if it goes on, if the record is not scored, or if its round is the last one anyway.
    """
    mious = [record["global"]["miou"] for record in records if record["global"]]
    if not records or not records[-1]["global"] or records[-1]["round"] >= settings.rounds:
        return None
    if settings.stop_at is not None and mious[-1] >= settings.stop_at:
        return f"its mIoU has reached {settings.stop_at:g} (--stop-at)"
    since = len(mious) - 1 - mious.index(max(mious))
    if settings.patience is not None and since >= settings.patience:
        return (f"its mIoU has not risen for {since} scored round{'s' if since > 1 else ''}, since "
                f"{max(mious):.3f} (--patience {settings.patience})")
    return None


def is_best(records: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the latest record is scored and has a higher mIoU than all before it."""
    *before, last = [record["global"] for record in records]
    return bool(last) and all(last["miou"] > one["miou"] for one in before if one)
