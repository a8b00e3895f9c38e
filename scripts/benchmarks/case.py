"""A stage made ready to be measured. A module of its own: `measure` is run as a program, and would hold every class twice."""

from collections.abc import Callable
from dataclasses import dataclass, field


class Missing(RuntimeError):
    """Something optional that a stage needs is not there; the message says what and how to get it."""


@dataclass
class Case:
    """A stage made ready.

    run: the measured work, n units of it, `seconds` of sound or video (0: it has no length in time).
    reference: n_reference units of the same work done another way.
    times: the measured work may put times in s here, {figure: [one for each ...]}; their median is told in ms.
    """

    run: Callable
    reference: Callable
    n: int = 1
    n_reference: int = 0
    seconds: float = 0.0
    times: dict = field(default_factory=dict)

    def __post_init__(self):
        self.n_reference = self.n_reference or self.n
