"""Changing models: cut, join, inline, rename, edit, resize, clean.

Every function takes models and gives a new one. The models that it takes stay as they are;
tensors, which are read-only, are shared, so that weights are neither read nor held twice. What
comes back breaks no rule of the standard that what went in did not break.
"""

from sardonyx.compose.cleaning import deduplicate, prune
from sardonyx.compose.copying import copy
from sardonyx.compose.extraction import extract
from sardonyx.compose.inlining import inline
from sardonyx.compose.merging import merge
from sardonyx.compose.nodes import add_outputs, insert, remove, replace
from sardonyx.compose.opsets import set_opset
from sardonyx.compose.renaming import prefix, rename
from sardonyx.compose.sizes import fix_dims, make_dynamic, set_batch_size

__all__ = [
    "add_outputs",
    "copy",
    "deduplicate",
    "extract",
    "fix_dims",
    "inline",
    "insert",
    "make_dynamic",
    "merge",
    "prefix",
    "prune",
    "remove",
    "rename",
    "replace",
    "set_batch_size",
    "set_opset",
]
