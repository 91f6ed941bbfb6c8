"""The file format: reading and writing models, tensors and external data."""

from sardonyx.wire.containers import (
    decode_optional,
    decode_sequence,
    encode_optional,
    encode_sequence,
)
from sardonyx.wire.decode import (
    DecodeContext,
    decode_model,
    decode_tensor,
    decode_type,
    decode_value_info,
    loads,
)
from sardonyx.wire.encode import (
    Chunks,
    encode_model,
    encode_tensor,
    encode_type,
    encode_value_info,
)
from sardonyx.wire.opening import load, parse
from sardonyx.wire.saving import dumps, save

__all__ = [
    "Chunks",
    "DecodeContext",
    "decode_model",
    "decode_optional",
    "decode_sequence",
    "decode_tensor",
    "decode_type",
    "decode_value_info",
    "dumps",
    "encode_model",
    "encode_optional",
    "encode_sequence",
    "encode_tensor",
    "encode_type",
    "encode_value_info",
    "load",
    "loads",
    "parse",
    "save",
]
