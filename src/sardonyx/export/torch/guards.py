"""What the traced code asked of sizes: which line of it fixed a dimension."""

from __future__ import annotations

import inspect
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from sardonyx.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

    from sardonyx.export.torch.signature import Call, Leaf

__all__ = ["Guards", "recorded", "user_frame"]

_TORCH: Final = str(Path(torch.__file__).parent)
_SARDONYX: Final = str(Path(__file__).parents[2])
_LOCK: Final = threading.Lock()
_MARKS: Final = ("Constraints violated", "user-specified dim", "dim hint", "DimHint", "Not all val")


class Guards:
    """The conditions on sizes that tracing met, each with the user's line that asked.

    `fixed` lists the axes that torch made constant although they were left to it: input, axis,
    size, and the line.
    """

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.environment: Any = None
        self.fixed: list[tuple[str, int, int, str]] = []

    def record(self, environment: Any, condition: Any) -> None:
        """Remember `condition` with the place in the user's code that is being traced."""
        self.environment = environment
        self.found.append((str(condition), _current_place()))

    def is_about_dims(self, text: str) -> bool:
        """Whether torch's message `text` is about dims that it could not keep dynamic."""
        return any(mark in text for mark in _MARKS)

    def reason(self, parameter: str, axis: int, leaf: Leaf) -> str:
        """The line that fixed or bounded an axis: ``net.py:7 in forward, which asks …``."""
        symbol = self._symbol(parameter, axis, leaf)
        if symbol is None:
            return ""
        word = re.compile(rf"\b{re.escape(symbol)}\b")
        fixing = re.compile(
            rf"^Eq\({re.escape(symbol)}, -?\d+\)$|^Eq\(-?\d+, {re.escape(symbol)}\)$"
        )
        mentioned = [(text, place) for text, place in self.found if word.search(text) and place]
        chosen = [each for each in mentioned if fixing.match(each[0])] or mentioned
        if not chosen:
            return ""
        return f"{chosen[0][1]}, which asks for {self._readable(chosen[0][0])}"

    def violation(self, text: str, name: str, call: Call) -> ExportError:
        """The error for torch's `text` about dims of the module `name`, with the user's lines."""
        reasons = [line.strip(" -") for line in text.splitlines() if line.lstrip().startswith("- ")]
        reasons = [line.partition(" If you're using")[0] for line in reasons]
        if not reasons:
            reasons = text.strip().splitlines()[:1]
        blamed: list[str] = []
        places: list[str] = []
        for leaf in call.leaves:
            for axis in leaf.dims:
                if not _is_blamed(leaf, axis, text):
                    continue
                blamed.append(leaf.label(axis))
                place = self.reason(leaf.parameter, axis, leaf)
                if place and place not in places:
                    places.append(place)
        fixes = re.search(r"Suggested fixes:\n((?:  .*\n?)+)", text)
        suggested = "; ".join(map(str.strip, fixes[1].strip().splitlines())) if fixes else ""
        error = ExportError(
            f"{'; '.join(dict.fromkeys(blamed)) or 'a dimension'} cannot be dynamic in {name}: "
            + " ".join(reasons),
            hint=f"torch suggests {suggested}"
            if suggested
            else "make the dimension static, or change the code that depends on its size",
        )
        for place in places:
            error.at(place)
        return error

    def _symbol(self, parameter: str, axis: int, leaf: Leaf) -> str | None:
        sources = getattr(self.environment, "source_to_var", None) or {}
        suffix = f".size()[{axis}]"
        found = [str(name) for name in sources if str(name).endswith(suffix)]
        exact = f"L['{parameter}']{suffix}"
        if exact in sources:
            return str(sources[exact])
        keys = re.findall(r"\w+", leaf.name)
        for name in found:
            if f"'{parameter}'" in name and re.findall(r"\w+", name)[1:-2] == keys:
                return str(sources[name])
        within = [name for name in found if f"'{parameter}'" in name]
        return str(sources[within[0]]) if len(within) == 1 else None

    def _readable(self, condition: str) -> str:
        """A condition with the sizes' own names: ``x.shape[0] == 4``."""
        sources = getattr(self.environment, "source_to_var", None) or {}
        for source, symbol in sources.items():
            shown = re.sub(r"^L\['(\w+)'\]", r"\1", str(source)).replace(".size()", ".shape")
            condition = re.sub(rf"\b{re.escape(str(symbol))}\b", shown, condition)
        for function, sign in (("Eq", "=="), ("Ne", "!=")):
            plain = re.match(rf"^{function}\((.*), ([^,]*)\)$", condition)
            if plain and plain[1].count("(") == plain[1].count(")"):
                condition = f"{plain[1]} {sign} {plain[2]}"
        return condition


def _is_blamed(leaf: Leaf, axis: int, text: str) -> bool:
    name = leaf.names.get(axis)
    named = name is not None and re.search(rf"\b{re.escape(name)}\b", text)
    place = re.search(rf"\['?{re.escape(leaf.parameter)}'?\].*\[{axis}\]", text)
    return bool(named or place)


@contextmanager
def recorded(guards: Guards) -> Iterator[None]:
    """Within the block, `guards` hears of each condition that this thread's tracing meets."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    thread = threading.get_ident()
    replaced: dict[str, Any] = {}

    def listen(name: str, position: int) -> None:
        original = getattr(ShapeEnv, name, None)
        if original is None:
            return

        def heard(self: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread and len(args) > position:
                guards.record(self, args[position])
            return original(self, *args, **kwargs)

        replaced[name] = original
        setattr(ShapeEnv, name, heard)

    with _LOCK:
        listen("_log_guard", 1)
    try:
        yield
    finally:
        with _LOCK:
            for name, original in replaced.items():
                setattr(ShapeEnv, name, original)


def _is_users(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return not name.startswith((_TORCH, _SARDONYX, "<"))


def _place(frame: FrameType, line: int) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"


def _current_place() -> str:
    """The innermost line of the user's code that is running, within a traced module's call."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if _is_users(frame):
            return _place(frame, frame.f_lineno)
        if (
            frame.f_code.co_filename.startswith(_SARDONYX)
            and "guards" not in frame.f_code.co_filename
        ):
            return ""
        frame = frame.f_back
    return ""


def user_frame(trace: TracebackType | None) -> str:
    """The innermost line of the user's code in a traceback."""
    place = ""
    while trace is not None:
        if _is_users(trace.tb_frame):
            place = _place(trace.tb_frame, trace.tb_lineno)
        trace = trace.tb_next
    return place
