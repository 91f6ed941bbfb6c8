"""The textual syntax: models as text and back (docs/text.md)."""

from sardonyx.ir.text.parser import parse, parse_function, parse_graph, parse_node
from sardonyx.ir.text.printer import Weights, model_text, to_text

__all__ = [
    "Weights",
    "model_text",
    "parse",
    "parse_function",
    "parse_graph",
    "parse_node",
    "to_text",
]
