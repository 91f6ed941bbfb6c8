"""``sardonyx optimize``: the same numbers with fewer nodes, written to a file of its own."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text

from sardonyx.cli.console import hint, output, print_json, printable, shown, working
from sardonyx.cli.drawing import duration_text
from sardonyx.passes import explain, rewrite
from sardonyx.wire import load, save

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.ir.model import Model
    from sardonyx.limits import Limits
    from sardonyx.passes import Optimized

__all__ = ["explain_rule", "optimize_file"]


def optimize_file(
    path: str,
    target: str | None,
    *,
    level: str,
    passes: Sequence[str],
    opset: int | None,
    verify: bool,
    external_data: bool,
    limits: Limits,
    as_json: bool,
) -> None:
    """Optimize the model at `path`, say what was done, and write it to `target` if given."""
    began = time.perf_counter()
    with working(f"optimizing {shown(path)}"):
        model = load(path, limits=limits)
        done = rewrite(
            model,
            level=level,
            passes=passes or None,
            opset=opset,
            verify=verify,
            limits=limits,
        )
        if target is not None:
            save(done.model, target, external_data=True if external_data else None)
    document = _document(path, target, model, done, verified=verify)
    document["seconds"] = round(time.perf_counter() - began, 3)
    if as_json:
        print_json(document)
    else:
        _print(document)


def explain_rule(path: str, rule: str, *, limits: Limits, as_json: bool) -> None:
    """Say where `rule` nearly applies to the model at `path`, and why it does not."""
    with working(f"reading {shown(path)}"):
        found = explain(load(path, limits=limits), rule, limits=limits)
    if as_json:
        print_json({"rule": rule, "nearest": [{"node": n, "reason": r or None} for n, r in found]})
        return
    console = output()
    if not found:
        console.print(f"no node is of an operator that {rule} ends with", markup=False)
    for node, reason in found:
        console.print(Text(printable(node), style="bold"), soft_wrap=True)
        console.print(Text(f"  {printable(reason) if reason else 'applies'}"), soft_wrap=True)


def _document(
    path: str, target: str | None, model: Model, done: Optimized, *, verified: bool
) -> dict[str, Any]:
    before = Counter([node.op_type for node in model.graph.all_nodes()])
    after = Counter([node.op_type for node in done.model.graph.all_nodes()])
    changed = [name for name in {**before, **after} if before[name] != after[name]]
    return {
        "file": path,
        "written": target,
        "nodes": {"before": before.total(), "after": after.total()},
        "operators": {name: [before[name], after[name]] for name in sorted(changed)},
        "patches": dict(Counter([patch.rule for patch in done.patches]).most_common()),
        "verified": verified,
    }


def _print(document: dict[str, Any]) -> None:
    console = output()
    write = partial(console.print, soft_wrap=True, highlight=False)
    nodes = document["nodes"]
    write(Text(f"{nodes['before']} nodes → {nodes['after']}", style="bold"))
    width = max(map(len, document["patches"]), default=0)
    for rule, count in document["patches"].items():
        write(Text(f"  {rule:<{width}}  {count}"))
    if document["verified"]:
        write(Text("numbers agree on generated inputs"))
    if document["written"] is not None:
        spent = duration_text(document["seconds"])
        write(hint(f"written to {shown(document['written'])} in {spent}"))
    else:
        write(hint("nothing is written without -o"))
