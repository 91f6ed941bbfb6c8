"""What inference found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.errors import SardonyxError
    from sardonyx.infer.naming import Origin
    from sardonyx.ir.value import Value
    from sardonyx.ops.fact import Fact

__all__ = ["Inference"]


@dataclass
class Inference:
    """What was inferred: a fact for each value, and what did not fit.

    `conflicts` are values declared as something else than they are; `problems` are nodes whose
    inputs cannot fit together; `unsupported` are nodes whose operator is unknown. `origins`
    says of each symbol that inference made what it stands for.
    """

    facts: dict[Value, Fact] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    problems: list[SardonyxError] = field(default_factory=list)
    unsupported: list[SardonyxError] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
