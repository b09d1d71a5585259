"""The byte planes of the protocol, written down once more the slow way: one entry at a time, `struct` and plain numbers.

Nothing here imports the codec or numpy. Lists of log-probabilities are lists of rows; a row is a list of floats that are
exact f32 values (or NaN, or -inf). What is refused raises ValueError.
"""

from __future__ import annotations

import math
import struct

NAN, INF = float("nan"), float("inf")
F16_MAX = 65504.0
Row = list[float]


# ---------------------------------------------------------------- numbers


def f32(value: float) -> float:
    """A double rounded to nearest f32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def f16_value(bits: int) -> float:
    return struct.unpack("<e", struct.pack("<H", bits))[0]


def least_f16_at_or_above(value: float) -> float:
    """Bisection over the non-negative half floats: 0x0000 (zero) .. 0x7BFF (65,504) are in numerical order."""
    low, high = 0, 0x7BFF
    if value > F16_MAX:
        raise ValueError(f"{value} is above every f16")
    if value > 0:  # the least magnitude that is large enough
        while low < high:
            middle = (low + high) // 2
            if f16_value(middle) >= value:
                high = middle
            else:
                low = middle + 1
        return f16_value(low)
    while low < high:  # the greatest magnitude that is not too large
        middle = (low + high + 1) // 2
        if f16_value(middle) <= -value:
            low = middle
        else:
            high = middle - 1
    return -f16_value(low) if low else 0.0


# ---------------------------------------------------------------- log-probabilities


def encode_f32(rows: list[Row]) -> bytes:
    out = b""
    for row in rows:
        for x in row:
            out += bytes.fromhex("0000c07f") if math.isnan(x) else struct.pack("<f", refuse_plus_infinity(x))
    return out


def encode_f16(rows: list[Row]) -> tuple[bytes, int, float]:
    """The plane, how many entries were clipped, and the error bound."""
    out, clipped, bound = b"", 0, 0.0
    for row in rows:
        for x in row:
            refuse_plus_infinity(x)
            if math.isnan(x):
                out += bytes.fromhex("007e")
                continue
            if x == -INF:
                out += bytes.fromhex("00fc")
                continue
            if x > F16_MAX:
                raise ValueError(f"{x} is above every f16")
            clipped += x < -F16_MAX
            plane = struct.pack("<e", max(x, -F16_MAX))
            out += plane
            bound = max(bound, half_spacing(abs(struct.unpack("<e", plane)[0]), 10, -14))
    return out, clipped, bound


def encode_u8(rows: list[Row]) -> tuple[bytes, bytes, bytes, int, float]:
    """Codes, bases, steps, how many entries were clipped, and the error bound."""
    codes, bases, steps, clipped, bound = b"", b"", b"", 0, 0.0
    for row in rows:
        finite = [refuse_plus_infinity(x) for x in row if not math.isnan(x) and refuse_plus_infinity(x) != -INF]
        base = least_f16_at_or_above(max(finite)) if finite else 0.0
        floor = max(min(finite), base - 24) if finite else 0.0
        step = least_f16_at_or_above((base - floor) / 252) if finite else 0.0
        for x in row:
            code = u8_code(x, base, floor, step)
            clipped += code == 253
            codes += bytes([code])
        bases += struct.pack("<e", base)
        steps += struct.pack("<e", step)
        if step > 0:
            largest = f32(max(abs(base), abs(base - 252 * step)))
            bound = max(bound, step / 2 + half_spacing(largest, 23, -126))
    return codes, bases, steps, clipped, next_f32(bound) if bound else 0.0


def u8_code(x: float, base: float, floor: float, step: float) -> int:
    if math.isnan(x):
        return 255
    if x == -INF:
        return 254
    if x < floor:
        return 253
    return round((base - x) / step) if step > 0 else 0  # Python rounds halves to even


def decode_f32(plane: bytes) -> Row:
    return [struct.unpack("<f", plane[i : i + 4])[0] for i in range(0, len(plane), 4)]


def decode_f16(plane: bytes) -> Row:
    return [struct.unpack("<e", plane[i : i + 2])[0] for i in range(0, len(plane), 2)]


def decode_u8(codes: bytes, bases: bytes, steps: bytes, lengths: list[int]) -> list[Row]:
    rows: list[Row] = []
    at = 0
    for r, length in enumerate(lengths):
        base = struct.unpack("<e", bases[2 * r : 2 * r + 2])[0]
        step = struct.unpack("<e", steps[2 * r : 2 * r + 2])[0]
        rows.append([u8_value(code, base, step) for code in codes[at : at + length]])
        at += length
    return rows


def u8_value(code: int, base: float, step: float) -> float:
    if code == 255:
        return NAN
    if code == 254:
        return -INF
    return f32(base - min(code, 252) * step)


def refuse_plus_infinity(x: float) -> float:
    if x == INF:
        raise ValueError("+inf is neither missing nor a log-probability")
    return x


def half_spacing(magnitude: float, fraction_bits: int, lowest_exponent: int) -> float:
    """Half the distance to the next float of a format with so many fraction bits."""
    exponent = math.frexp(magnitude)[1] - 1 if magnitude else lowest_exponent
    return 2.0 ** (max(exponent, lowest_exponent) - fraction_bits - 1)


def next_f32(value: float) -> float:
    """The f32 after the one nearest to a positive value."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return struct.unpack("<f", struct.pack("<I", bits + 1))[0]


# ---------------------------------------------------------------- ids, offsets, validity, hidden states


def encode_ids(ids: list[int], head_rows: int) -> tuple[bytes, bytes]:
    """The low and the high plane."""
    low, high = b"", b""
    for token in ids:
        if not 0 <= token < min(head_rows, 1 << 24):
            raise ValueError(f"id {token} is outside the head")
        low += struct.pack("<H", token & 0xFFFF)
        high += struct.pack("<B", token >> 16) if head_rows > 65536 else b""
    return low, high


def decode_ids(low: bytes, high: bytes) -> list[int]:
    ids: list[int] = []
    for i in range(len(low) // 2):
        ids.append(low[2 * i] + 256 * low[2 * i + 1] + (65536 * high[i] if high else 0))
    return ids


def encode_offsets(lengths: list[int]) -> bytes:
    out, at = struct.pack("<I", 0), 0
    for length in lengths:
        at += length
        out += struct.pack("<I", at)
    return out


def decode_offsets(plane: bytes) -> list[int]:
    return [struct.unpack("<I", plane[i : i + 4])[0] for i in range(0, len(plane), 4)]


def bf16_bits(value: float) -> int:
    """The bf16 nearest to an f32, ties to even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    upper, rest = bits >> 16, bits & 0xFFFF
    return upper + (rest > 0x8000 or (rest == 0x8000 and upper & 1 == 1))


def decode_bf16(plane: bytes) -> Row:
    return [struct.unpack("<f", b"\0\0" + plane[i : i + 2])[0] for i in range(0, len(plane), 2)]


# ---------------------------------------------------------------- protobuf, as far as columns need it


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """(field number, value) pairs; zero and empty values are left out, as proto3 does."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value) if value else b""
        elif value:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out
