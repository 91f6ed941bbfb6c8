"""The messages of onnx.proto and onnx-data.proto, IR 1 to 14: what each field holds.

Kinds: `text` is UTF-8 that names something, `prose` is UTF-8 kept even where malformed, `bytes`,
`int32`, `int64`, `uint64`, `float`, `double`, or the name of a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["FIXED32", "FIXED64", "LENGTH", "RUN", "VARINT", "Field", "Message", "message"]

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5
RUN: Final = 8
"""Added to a wire type: several values, each behind its own tag, of one repeated field."""

_WIRES: Final = {
    "int32": VARINT,
    "int64": VARINT,
    "uint64": VARINT,
    "float": FIXED32,
    "double": FIXED64,
}


class Field(NamedTuple):
    """One field of a message; `wire` is the wire type of a single value."""

    name: str
    number: int
    kind: str
    repeated: bool
    wire: int


class Message:
    """The fields of one message, by number; `known` tells which tags are in order.

    `known` maps a tag (number * 8 + wire type) to its field. `codes` does it for arrays of tags
    below 2^14: number * 16 + wire type, or -1. `runs` are the one-byte tags that may stand many
    times in a row.
    """

    __slots__ = ("by_name", "codes", "known", "name", "numbers", "runs", "simple")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.known: dict[int, Field] = {}
        self.numbers: dict[int, Field] = {}
        self.by_name: dict[str, Field] = {}
        self.codes: npt.NDArray[np.int32] = np.full(1 << 14, -1, np.int32)
        self.runs: set[int] = set()
        self.simple: set[int] = set()
        for part in text.split(";"):
            number, kind, field_name = part.split()
            repeated = kind.endswith("*")
            kind = kind.rstrip("*")
            wire = _WIRES.get(kind, LENGTH)
            field = Field(field_name, int(number), kind, repeated, wire)
            self.numbers[field.number] = self.by_name[field_name] = field
            for form in {wire, LENGTH} if repeated else {wire}:
                tag = field.number * 8 + form
                self.known[tag] = field
                self.codes[tag] = field.number * 16 + form
                if form == LENGTH and tag < 128:
                    self.simple.add(tag)
            if repeated and wire != LENGTH:
                self.runs.add(field.number * 8 + wire)


_TEXTS: Final = {
    "ModelProto": """1 int64 ir_version; 8 OperatorSetIdProto* opset_import;
        2 prose producer_name; 3 prose producer_version; 4 prose domain; 5 int64 model_version;
        6 prose doc_string; 7 GraphProto graph; 14 StringStringEntryProto* metadata_props;
        20 TrainingInfoProto* training_info; 25 FunctionProto* functions;
        26 DeviceConfigurationProto* configuration""",
    "GraphProto": """1 NodeProto* node; 2 text name; 5 TensorProto* initializer;
        15 SparseTensorProto* sparse_initializer; 10 prose doc_string; 11 ValueInfoProto* input;
        12 ValueInfoProto* output; 13 ValueInfoProto* value_info;
        14 TensorAnnotation* quantization_annotation; 16 StringStringEntryProto* metadata_props""",
    "FunctionProto": """1 text name; 4 text* input; 5 text* output; 6 text* attribute;
        11 AttributeProto* attribute_proto; 7 NodeProto* node; 8 prose doc_string;
        9 OperatorSetIdProto* opset_import; 10 text domain; 13 text overload;
        12 ValueInfoProto* value_info; 14 StringStringEntryProto* metadata_props""",
    "NodeProto": """1 text* input; 2 text* output; 3 text name; 4 text op_type; 7 text domain;
        8 text overload; 5 AttributeProto* attribute; 6 prose doc_string;
        9 StringStringEntryProto* metadata_props;
        10 NodeDeviceConfigurationProto* device_configurations""",
    "AttributeProto": """1 text name; 21 text ref_attr_name; 13 prose doc_string; 20 int32 type;
        2 float f; 3 int64 i; 4 bytes s; 5 TensorProto t; 6 GraphProto g;
        22 SparseTensorProto sparse_tensor; 14 TypeProto tp; 7 float* floats; 8 int64* ints;
        9 bytes* strings; 10 TensorProto* tensors; 11 GraphProto* graphs;
        23 SparseTensorProto* sparse_tensors; 15 TypeProto* type_protos""",
    "ValueInfoProto": """1 text name; 2 TypeProto type; 3 prose doc_string;
        4 StringStringEntryProto* metadata_props""",
    "TensorProto": """1 int64* dims; 2 int32 data_type; 3 Segment segment; 4 float* float_data;
        5 int32* int32_data; 6 bytes* string_data; 7 int64* int64_data; 8 text name;
        12 prose doc_string; 9 bytes raw_data; 13 StringStringEntryProto* external_data;
        14 int32 data_location; 10 double* double_data; 11 uint64* uint64_data;
        16 StringStringEntryProto* metadata_props""",
    "Segment": "1 int64 begin; 2 int64 end",
    "SparseTensorProto": "1 TensorProto values; 2 TensorProto indices; 3 int64* dims",
    "StringStringEntryProto": "1 prose key; 2 prose value",
    "OperatorSetIdProto": "1 text domain; 2 int64 version",
    "TensorAnnotation": """1 text tensor_name;
        2 StringStringEntryProto* quant_parameter_tensor_names""",
    "TrainingInfoProto": """1 GraphProto initialization; 2 GraphProto algorithm;
        3 StringStringEntryProto* initialization_binding;
        4 StringStringEntryProto* update_binding""",
    "DeviceConfigurationProto": "1 text name; 2 int32 num_devices; 3 text* device",
    "NodeDeviceConfigurationProto": """1 text configuration_id; 2 ShardingSpecProto* sharding_spec;
        3 int32 pipeline_stage""",
    "ShardingSpecProto": """1 text tensor_name; 2 int64* device;
        3 IntIntListEntryProto* index_to_device_group_map; 4 ShardedDimProto* sharded_dim""",
    "IntIntListEntryProto": "1 int64 key; 2 int64* value",
    "ShardedDimProto": "1 int64 axis; 2 SimpleShardedDimProto* simple_sharding",
    "SimpleShardedDimProto": "1 int64 dim_value; 2 text dim_param; 3 int64 num_shards",
    "TypeProto": """1 Tensor tensor_type; 4 Sequence sequence_type; 5 Map map_type;
        9 Sequence optional_type; 8 Tensor sparse_tensor_type; 7 Opaque opaque_type;
        6 text denotation""",
    "Tensor": "1 int32 elem_type; 2 TensorShapeProto shape",
    "TensorShapeProto": "1 Dimension* dim",
    "Dimension": "1 int64 dim_value; 2 text dim_param; 3 text denotation",
    "Sequence": "1 TypeProto elem_type",
    "Map": "1 int32 key_type; 2 TypeProto value_type",
    "Opaque": "1 text domain; 2 text name",
    "SequenceProto": """1 text name; 2 int32 elem_type; 3 TensorProto* tensor_values;
        4 SparseTensorProto* sparse_tensor_values; 5 SequenceProto* sequence_values;
        6 MapProto* map_values; 7 OptionalProto* optional_values""",
    "MapProto": """1 text name; 2 int32 key_type; 3 int64* keys; 4 bytes* string_keys;
        5 SequenceProto values""",
    "OptionalProto": """1 text name; 2 int32 elem_type; 3 TensorProto tensor_value;
        4 SparseTensorProto sparse_tensor_value; 5 SequenceProto sequence_value;
        6 MapProto map_value; 7 OptionalProto optional_value""",
}
_MESSAGES: Final[dict[str, Message]] = {}


def message(name: str) -> Message:
    """The message called `name` (nested ones by their last name)."""
    found = _MESSAGES.get(name)
    if found is None:
        found = _MESSAGES[name] = Message(name, _TEXTS[name])
    return found
