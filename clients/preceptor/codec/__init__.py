"""Columns between numpy and bytes: exactly the byte planes of `Rows`, `Payload`, `CandidateIds` and `HiddenStates`.

Pure functions on arrays; messages are put together in `preceptor.wire`. Everything is little-endian.

| plane | encode | decode |
|---|---|---|
| sampled, entropy, tail (f32, one a row) | `encode_column` | `decode_column` |
| lists of log-probabilities in a grade | `encode_values` | `decode_values` |
| ids beside such lists (u16 low, u8 high) | `encode_ids` | `decode_ids` |
| offsets of ragged lists (u32, rows + 1) | `encode_offsets` | `decode_offsets` |
| validity (one byte a row) | `encode_validity` | `decode_validity` |
| hidden states (f32, f16, bf16) | `encode_hidden` | `decode_hidden` |

Rules that hold everywhere:

* NaN is "missing" and is always written as the one quiet NaN, so equal scores are equal bytes; -inf is "probability zero";
  +inf is neither, and is refused.
* Nothing is filled in, cut or padded. Where `validity` is given, a row that is not OK must hold NaN alone.
* Encoders raise `InvalidArgument`; decoders take untrusted bytes and raise `Corrupt`. Both name the field, what was found and
  what was expected. A decoder allocates in proportion to the bytes it was given, whatever a count claims.
* Decoded arrays are read-only, views of the given bytes where the machine can read them as they are.
"""

from preceptor.codec.columns import decode_column, decode_validity, encode_column, encode_validity
from preceptor.codec.enums import Grade, HiddenDtype, Validity, WireEnum
from preceptor.codec.hidden import decode_hidden, encode_hidden
from preceptor.codec.ids import EncodedIds, decode_ids, encode_ids
from preceptor.codec.layout import decode_offsets, encode_offsets
from preceptor.codec.values import EncodedValues, decode_values, encode_values

__all__ = [
    "EncodedIds",
    "EncodedValues",
    "Grade",
    "HiddenDtype",
    "Validity",
    "WireEnum",
    "decode_column",
    "decode_hidden",
    "decode_ids",
    "decode_offsets",
    "decode_validity",
    "decode_values",
    "encode_column",
    "encode_hidden",
    "encode_ids",
    "encode_offsets",
    "encode_validity",
    "encode_values",
]
