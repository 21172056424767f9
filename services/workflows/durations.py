"""How long something takes, as authors write it: `90s`, `1h30m`, `P10D`, `PT15M`; and moments, as ISO 8601.

Months and years are refused: how long they are depends on when they begin. A day has 24 hours here.
"""

import re
from datetime import datetime

from services.workflows.bounds import DURATION_MS_MAX

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
SHORT_PATTERN = r"(?:[0-9]{1,9}(?:ms|[smhdw]))+"
ISO_PATTERN = (
    r"P(?=[0-9T])(?:[0-9]{1,9}W)?(?:[0-9]{1,9}D)?"
    r"(?:T(?=[0-9])(?:[0-9]{1,9}H)?(?:[0-9]{1,9}M)?(?:[0-9]{1,9}(?:\.[0-9]{1,3})?S)?)?"
)
DURATION_PATTERN = f"^(?:{SHORT_PATTERN}|{ISO_PATTERN})$"

_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")
_KNOWN = re.compile(DURATION_PATTERN)


def duration_ms(text: str) -> int:
    """The milliseconds that `text` states.

    Raises:
        ValueError: it states none, or more than ten years.
    """
    if not _KNOWN.fullmatch(text):
        raise ValueError(f"{text!r} is no duration such as 90s, 1h30m or P10D")
    plain = text.replace("P", "").replace("T", "").lower()
    total_ms = sum(round(float(number) * _UNIT_MS[unit]) for number, unit in _PARTS.findall(plain))
    if total_ms > DURATION_MS_MAX:
        raise ValueError(f"{text!r} is longer than ten years")
    return total_ms


def moment_ms(text: str) -> int:
    """The moment that `text` states, in milliseconds since 1970.

    Raises:
        ValueError: it states none, or no offset from UTC, without which it could be any of many.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC, such as Z or +02:00")
    return round(moment.timestamp() * 1_000)
