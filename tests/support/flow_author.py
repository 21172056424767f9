"""Writes valid workflow definitions from a seed, with every kind of step and what the reference interpreter knows of it."""

import random
from typing import Any

ERRORS = ("boom", "bang", "task.lost")
HANDLED = (*ERRORS, "timeout")
CALLS = ("task", "http", "object", "child")
SIGNALS = ("go", "stop")
INNER = (*CALLS, "task", "wait", "wait", "sleep", "sleep_until", "parallel", "map")
OUTER = (*INNER, "pass", "fail", "succeed", "choice", "pass_and_choice")
_LARGE = "{% $type($result) = 'number' and $result > 2 %}"


class Author:
    """Writes definitions. Spans differ as long as there are not too many, so what is due first is hardly ever a tie."""

    def __init__(self, seed: int, start_ms: int) -> None:
        self._dice = random.Random(seed)
        self._start_ms = start_ms
        self._spans = 0

    def definition(self) -> dict[str, Any]:
        """A whole definition."""
        block = self._block(OUTER, depth=0)
        whole = {"workflow": "w", **block, "retry_default": []}
        if self._dice.random() < 0.3:
            whole["deadline"] = {"after": self._span()}
            if self._dice.random() < 0.5:
                whole["deadline"]["next"] = self._dice.choice(list(block["steps"]))
        return whole

    def _span_ms(self) -> int:
        self._spans += 1
        return 1_000 + int(2 ** min(self._spans, 24)) + self._spans

    def _span(self) -> str:
        return f"{self._span_ms()}ms"

    def _block(self, kinds: tuple[str, ...], depth: int) -> dict[str, Any]:
        names = [f"s{number}" for number in range(self._dice.randint(1, 4 if depth == 0 else 2))]
        steps = {}
        for number, name in enumerate(names):
            last = number + 1 == len(names)
            steps[name] = self._step(kinds, names, None if last else names[number + 1], depth)
        return {"start": "s0", "steps": steps}

    def _step(self, kinds: tuple[str, ...], names: list[str], following: str | None, depth: int) -> dict[str, Any]:
        kind = self._dice.choice([one for one in kinds if depth < 2 or one not in {"parallel", "map"}])
        if kind in {"fail", "succeed"} and following is not None:
            kind = "pass"  # What stands behind an end could never be reached.
        if kind in {"choice", "pass_and_choice"} and following is None:
            kind = "pass"
        if kind == "fail":
            return {"fail": {"error": "bang"}, "compensate_all": self._dice.random() < 0.5}
        if kind == "succeed":
            return {"succeed": "done"}
        step: dict[str, Any] = {"next": following} if following else {"end": True}
        step |= self._kind(kind, depth)
        if following is not None and "choice" in kind:
            self._choose(step, names, following)
        if kind in {*CALLS, "wait", "parallel", "map"}:
            self._handle(step, names, depth)
        if kind in {*CALLS, "wait"}:
            self._limit(step, kind, depth)
        if depth == 0 and kind in {"pass", "sleep"} and self._dice.random() < 0.3:
            step |= {"pivot": True} if kind == "pass" else {"max_visits": 1}
        return step

    def _kind(self, kind: str, depth: int) -> dict[str, Any]:
        match kind:
            case "choice":
                return {}
            case "pass" | "pass_and_choice":
                return {"pass": self._dice.randint(0, 5)}
            case "sleep":
                return {"sleep": self._span()}
            case "sleep_until":
                moment_ms = self._start_ms + self._dice.randint(0, 2) * self._span_ms()
                return {"sleep_until": f"{{% $fromMillis({moment_ms}) %}}"}
            case "http":
                return {"http": {"POST": "https://far.example/", "callback": self._dice.random() < 0.5}}
            case "object":
                return {"object": {"type": "shelf", "id": "a", "call": "take"}}
            case "child":
                return {"child": {"workflow": "below"}}
            case "wait":
                return self._wait()
            case "parallel" | "map":
                return self._fork(kind, depth)
            case _:
                return {kind: "q"} | ({"heartbeat": self._span()} if self._dice.random() < 0.4 else {})

    def _wait(self) -> dict[str, Any]:
        step: dict[str, Any] = {"wait": {"signal": self._dice.choice(SIGNALS)} if self._dice.random() < 0.6 else {}}
        if self._dice.random() < 0.3:
            step["remind"] = {
                "every": self._span(),
                "max": self._dice.randint(1, 3),
                "do": {"http": {"POST": "https://far.example/"}},
            }
        if self._dice.random() < 0.3:
            step["escalate"] = [
                {"after": self._span(), "assign": {"group": "ops"}, "extend": self._span()}
                for _ in range(self._dice.randint(1, 2))
            ]
        return step

    def _choose(self, step: dict[str, Any], names: list[str], following: str) -> None:
        """With a rule; and without a default, now and then, so that nothing may be true."""
        del step["next"]
        step["choice"] = [{"when": _LARGE, "next": self._dice.choice(names[names.index(following) :])}]
        if step["choice"][0]["next"] != following or self._dice.random() < 0.7:
            step["default"] = following

    def _fork(self, kind: str, depth: int) -> dict[str, Any]:
        if kind == "map":
            items = list(range(self._dice.randint(1 if depth else 0, 3)))
            tolerate = self._dice.choice([0, 1, "50%"])
            return {
                "map": {"items": items, "concurrency": self._dice.randint(0, 2), "tolerate": tolerate},
                "each": self._block(INNER, depth + 1),
            }
        branches = {f"b{number}": self._block(INNER, depth + 1) for number in range(self._dice.randint(1, 3))}
        join = self._dice.choice(["all", "any", {"count": self._dice.randint(1, len(branches))}])
        others = self._dice.choice(["cancel_others", "wait_others"])
        return {"parallel": {"branches": branches, "join": join, "on_failure": others}}

    def _handle(self, step: dict[str, Any], names: list[str], depth: int) -> None:
        limited = depth == 0 and self._dice.random() < 0.2
        if limited:
            step["max_visits"] = self._dice.randint(1, 2)
        if self._dice.random() < 0.4:
            step["retry"] = [self._retrier(error) for error in self._dice.sample(HANDLED, self._dice.randint(1, 2))]
        if self._dice.random() < 0.4:
            # What catches everything would catch for ever that a step is entered too often.
            errors = self._dice.choice([["boom"], ["bang", "task.lost"], ["timeout"] if limited else ["*"]])
            step["catch"] = [{"errors": errors, "next": self._dice.choice(names)}]
            if self._dice.random() < 0.5:
                step["catch"][0]["max_visits"] = 2
        if self._dice.random() < 0.2:
            step["on_exhausted"] = "fail"

    def _limit(self, step: dict[str, Any], kind: str, depth: int) -> None:
        """What a call or a wait has beside its handlers."""
        if self._dice.random() < 0.4:
            step["timeout"] = self._span()
        if depth == 0 and self._dice.random() < 0.6:
            retry = [self._retrier(error) for error in self._dice.sample(HANDLED, self._dice.randint(0, 2))]
            step["compensate"] = {"task": "u", "retry": retry, "timeout": self._span()}
        if depth == 0 and kind in CALLS and "on_exhausted" not in step and self._dice.random() < 0.1:
            step["retry"] = [{"errors": ["*"], "interval": self._span(), "rate": 1, "attempts": "unlimited"}]
            step |= {"pivot": True}

    def _retrier(self, error: str) -> dict[str, Any]:
        attempts = self._dice.randint(0, 2)
        return {"errors": [error], "interval": self._span(), "rate": 1, "attempts": attempts}
