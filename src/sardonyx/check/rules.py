"""The rules that the checker knows: stable names, what each means, how a break is mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `severity` is error, warning or info, or two of them where it depends."""

    severity: str
    meaning: str
    fix: str


RULES: Final[dict[str, Rule]] = {
    # versions
    "ir-version": Rule(
        "error",
        "`ir_version` is given, and is one that exists (1 to 14)",
        "set ir_version to the newest version that the model's readers know",
    ),
    "ir-feature": Rule(
        "error or warning",
        "what the file holds exists in its IR version; an error where the old version forbids it "
        "(initializers that are no inputs before 4, operator-set imports before 3)",
        "raise ir_version to the version that brought it",
    ),
    "opset": Rule(
        "error or warning",
        "each domain that nodes use is imported, once, in a version that exists; a warning where "
        "'' and 'ai.onnx' import the same version",
        "import each domain once, in a version that exists",
    ),
    "unused-opset": Rule(
        "info", "imported domains are used by a node or function", "remove the import"
    ),
    # names and order
    "missing-name": Rule(
        "error",
        "inputs, initializers, functions and their parameters have names",
        "give it a name",
    ),
    "graph-name": Rule(
        "warning", "graphs have names (onnx.checker refuses those without)", "give it a name"
    ),
    "name-characters": Rule(
        "warning", "names have printable characters only", "rename it: tools show it escaped"
    ),
    "duplicate-name": Rule(
        "error",
        "single assignment: within a graph and those around it each name is defined once; "
        "no output is listed twice in the main graph",
        "rename one of the two and what reads it",
    ),
    "shadowed-name": Rule(
        "warning",
        "inputs and initializers of a subgraph do not hide a name of a graph around it",
        "rename the inner one",
    ),
    "duplicate-node-name": Rule(
        "warning", "nodes of one graph have different names", "rename all but one"
    ),
    "undefined-name": Rule(
        "error",
        "what nodes read and graphs return is an input, an initializer or a node's output",
        "correct the name, or add what defines it",
    ),
    "order": Rule(
        "error",
        "nodes stand after those that they read from",
        "sort the nodes so that each follows those that it reads from",
    ),
    "outer-output": Rule(
        "error",
        "a subgraph returns values of its own, not of the graphs around it",
        "return the output of an Identity node of the subgraph",
    ),
    "value-info": Rule(
        "warning",
        "value_info names values of its own graph, each once",
        "remove the entries, or infer shapes anew",
    ),
    "unused-initializer": Rule(
        "info", "initializers are read by a node or returned", "remove them: the file gets smaller"
    ),
    # types as declared
    "missing-type": Rule(
        "error",
        "inputs and outputs of the main graph have a type, tensors an element type",
        "declare the type",
    ),
    "missing-shape": Rule(
        "warning",
        "inputs and outputs of the main graph have a shape, if only the rank is known "
        "(onnx.checker refuses those without)",
        "declare the rank, with names for sizes that vary",
    ),
    "invalid-type": Rule(
        "error",
        "map keys are integers or strings, opaque types have a name",
        "declare a type that exists",
    ),
    # nodes
    "unknown-operator": Rule(
        "error",
        "operators of the standard's domains exist, and an overload names a function",
        "correct the name, or import the domain that it belongs to",
    ),
    "custom-operator": Rule(
        "warning, error for a session",
        "operators are the standard's or the model's own functions; others are valid in a file, "
        "but nothing is known of them: their nodes are not checked, and no session runs them",
        "add a function to the model that defines it, or export without it",
    ),
    "operator-version": Rule(
        "error",
        "operators exist in the imported version of their domain",
        "import the version that brought the operator",
    ),
    "deprecated": Rule(
        "error", "operators are not deprecated in the imported version", "use its successor"
    ),
    "arity": Rule(
        "error",
        "nodes have as many inputs and outputs as their operator or function takes, and none is "
        "missing that must be there",
        "give the inputs and outputs that the operator lists",
    ),
    "unknown-attribute": Rule(
        "error, warning for a function",
        "nodes give attributes that their operator's version has; names that begin with '__' are "
        "free",
        "remove it, or import the version that has it",
    ),
    "attribute-type": Rule(
        "error", "attributes have the type that the operator takes", "give a value of that type"
    ),
    "attribute-value": Rule(
        "error",
        "the attributes of a node fit together, and those of a call fit its function's body",
        "correct the values",
    ),
    "missing-attribute": Rule(
        "error, warning for a function", "required attributes are given", "give it"
    ),
    "attribute-reference": Rule(
        "error or warning",
        "references to attributes stand in function bodies only, have no value of their own, and "
        "name an attribute that the function declares, of the same type; undeclared is a warning "
        "where the operator has a default",
        "give the attribute a value, or declare it in the function",
    ),
    # functions
    "cycle": Rule("error", "functions do not call themselves, not in circles either", "inline one"),
    "function-signature": Rule(
        "error",
        "inputs, outputs and attributes of a function are named once each",
        "rename one of the two",
    ),
    "function-domain": Rule(
        "warning",
        "functions have a domain, and do not stand in for an operator of the standard",
        "put the function into a domain of its own",
    ),
    "function-opset": Rule(
        "error",
        "a function and the model mean the same version of an operator by their imports",
        "import the same version in both",
    ),
    "unused-attribute": Rule(
        "warning", "attributes that a function declares are used in its body", "remove it"
    ),
    "unused-function": Rule("info", "functions are called", "remove the function"),
    # data
    "encoding": Rule(
        "error",
        "every part of the file can be read: tensors have as much data as type and shape say, in "
        "one field; attributes have one value, of their type; keys are unique",
        "write the file anew with the program that made it",
    ),
    "external-data": Rule(
        "error",
        "external data is there, large enough, and reached without leaving the model's folder",
        "put the data file beside the model",
    ),
    "tensor": Rule("error", "unused bits of 6-bit elements are zero", "clear the bits"),
    "sparse-tensor": Rule(
        "error",
        "sparse tensors have positive dims, one INT64 index per value, in range, ascending, none "
        "twice",
        "sort the indices and remove what is twice or out of range",
    ),
    "default": Rule(
        "error",
        "an initializer that is an input has that input's type and shape",
        "declare the initializer's type for the input",
    ),
    # training, quantization, devices
    "training": Rule(
        "error or warning",
        "bindings map each initializer once, to an output of its type; the initialization graph "
        "takes no inputs (a warning)",
        "bind names of initializers to names of outputs",
    ),
    "quantization": Rule(
        "warning",
        "quantization annotations are about tensors of the graph, one each, and name such tensors",
        "correct the names, or remove the annotation",
    ),
    "device-configuration": Rule(
        "error or warning",
        "configurations have different names and as many devices as they say; nodes name one of "
        "them, tensors of their own, devices in range, axes within the rank, and shards above 0",
        "correct the configuration, or remove it",
    ),
    # types and shapes
    "type": Rule(
        "error",
        "inputs and outputs have types that the operator takes, equal where it needs them equal",
        "insert a Cast",
    ),
    "shape": Rule(
        "error", "the shapes and contents of a node's inputs fit together", "correct the shapes"
    ),
    "declared-type": Rule(
        "error or warning",
        "values are what the file declares: another element type is an error, another shape a "
        "warning (files in the wild have them, and inference knows better)",
        "declare what was inferred: sardonyx.infer_shapes(model)",
    ),
    "inference": Rule("warning", "the types of a node's outputs can be told", "see the message"),
    "limit": Rule(
        "error",
        "nesting, functions when expanded, and other costs stay below sardonyx.Limits",
        "if you trust the model, pass limits=Limits(...) with a higher bound",
    ),
}
"""Rules by name, in the order of the documentation."""
