"""Which traces are kept: decided once, at the root, from the trace id alone.

Standard names, standard meaning: OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. The ratio is
taken of the low 64 bits of the trace id, as the OpenTelemetry SDKs do, so that services with the
same ratio keep the same traces.

Source: https://opentelemetry.io/docs/languages/sdk-configuration/general/
"""

import random
from collections.abc import Mapping

import msgspec

from shared.errors import ConfigurationError
from shared.telemetry.context import TraceContext

RATIO_DEFAULT = 0.05
"""Without OTEL_TRACES_SAMPLER: one new trace in twenty, and whatever the caller has sampled."""

_LOW_64 = (1 << 64) - 1
_RATIO_ALWAYS = {"always_on": 1.0, "always_off": 0.0}
_PARENT_BASED = "parentbased_"
_SAMPLERS = ("always_on", "always_off", "traceidratio")


class Sampler(msgspec.Struct, frozen=True, kw_only=True):
    """The decision. `ratio` of new traces is kept; `follow_parent`: the caller's decision goes first."""

    ratio: float
    follow_parent: bool = True

    def begin(self, parent: TraceContext | None) -> TraceContext | None:
        """The context of the first span in this process, or None if the trace is not kept.

        Costs one random number, and no object, where the answer is None.
        """
        if parent is None:
            low = random.getrandbits(64)  # Identifies; nothing secret.
            if low >= self.ratio * _LOW_64:
                return None
            trace_id = random.getrandbits(64) << 64 | (low or 1)
        else:
            trace_id = parent.trace_id
            if not (parent.sampled if self.follow_parent else (trace_id & _LOW_64) < self.ratio * _LOW_64):
                return None
        return TraceContext(trace_id=trace_id, span_id=new_span_id(), sampled=True)


def new_span_id() -> int:
    """64 random bits, never 0."""
    return random.getrandbits(64) or 1


def read_sampler(environ: Mapping[str, str]) -> Sampler:
    """The sampler that the OTEL_TRACES_SAMPLER variables describe.

    Raises:
        ConfigurationError: an unknown sampler, or a ratio that is none.
    """
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    argument = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    rule = name.removeprefix(_PARENT_BASED)
    if name and rule not in _SAMPLERS:
        known = ", ".join((*_SAMPLERS, *(_PARENT_BASED + sampler for sampler in _SAMPLERS)))
        raise ConfigurationError(f"OTEL_TRACES_SAMPLER is {name!r}, but must be one of {known}.")
    ratio = _RATIO_ALWAYS.get(rule)
    if ratio is None:
        ratio = _ratio(argument) if argument else (1.0 if name else RATIO_DEFAULT)
    return Sampler(ratio=ratio, follow_parent=not name or name.startswith(_PARENT_BASED))


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ConfigurationError(f"OTEL_TRACES_SAMPLER_ARG is {text!r}, but must be a number from 0 to 1.")
    return ratio
