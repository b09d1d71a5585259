"""Draws that depend on what they are for and on nothing else: Philox4x32-10, vectorised.

A counter-based generator maps (key, counter) to four random words. Order, batching, restarts and caches never change a
draw, because the counter is built from the draw's purpose:

| use | key | counter words, lowest first |
|---|---|---|
| a rollout's token | the run's 64-bit seed | position, sample, prompt, step |
| further draws of that token | the same | position + draw * 2^20, sample, prompt, step |
| a rollout as a whole | the same | `WHOLE`, sample, prompt, step |
| a teacher's `samples(n)` | the sequence's 64-bit `sample_seed` | draw, row, 0, `TEACHER_DOMAIN` |

The key is (seed mod 2^32, seed div 2^32). A uniform number takes the upper 53 of the 64 bits that word 0, then word 1 spell
(word 0 is the upper half), times 2^-53, so it lies in [0, 1). Words 2 and 3 spell a second number, the coin of a behaviour
policy; of a whole rollout words 0 and 1 are, all 64 bits of them, the seed of its teacher's draws. Constants and rounds follow
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preceptor.errors import InvalidArgument

U64 = NDArray[np.uint64]

TEACHER_DOMAIN = 0x7465_6163  # keeps a teacher's draws apart from a run's, should both use one seed
FURTHER_DRAW = 1 << 20  # above every position
WHOLE = (1 << 32) - 1  # in the place of a position, which it never is
ROUNDS = 10
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_LOW, _WORD_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_MAX_WORD, _MAX_SEED = (1 << 32) - 1, (1 << 64) - 1


def philox4x32(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], seed: ArrayLike) -> NDArray[np.uint32]:
    """Four random words, [..., 4], for each counter and 64-bit key; all five inputs broadcast against each other."""
    keys = _seeds(seed)
    c0, c1, c2, c3, keys = np.broadcast_arrays(*(_words(word, i) for i, word in enumerate(counter)), keys)
    k0, k1 = keys & _LOW, keys >> _WORD_BITS
    for number in range(ROUNDS):
        first, second = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        r0, r1 = (k0 + np.uint64(number * _WEYL_0 & _MAX_WORD)) & _LOW, (k1 + np.uint64(number * _WEYL_1 & _MAX_WORD)) & _LOW
        c0, c1, c2, c3 = (second >> _WORD_BITS) ^ c1 ^ r0, second & _LOW, (first >> _WORD_BITS) ^ c3 ^ r1, first & _LOW
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def uniform_from_words(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits from words 0 and 1 of each block."""
    wide = words.astype(np.uint64)
    bits = (wide[..., 0] << np.uint64(21)) | (wide[..., 1] >> np.uint64(11))
    return bits.astype(np.float64) * 2.0**-53


def rollout_uniform(seed: int, step: ArrayLike, prompt: ArrayLike, sample: ArrayLike, position: ArrayLike) -> NDArray[np.float64]:
    """The number that draws token `position` of sample `sample` of prompt `prompt` in step `step`; arguments broadcast."""
    return uniform_from_words(philox4x32((position, sample, prompt, step), seed))


def rollout_coin(seed: int, step: ArrayLike, prompt: ArrayLike, sample: ArrayLike, position: ArrayLike) -> NDArray[np.float64]:
    """A second number for the same token, independent of `rollout_uniform`; position `WHOLE`: one for the whole rollout."""
    return uniform_from_words(philox4x32((position, sample, prompt, step), seed)[..., 2:])


def rollout_sample_seed(seed: int, step: ArrayLike, prompt: ArrayLike, sample: ArrayLike) -> U64:
    """The `sample_seed` of what a teacher draws for this rollout."""
    words = philox4x32((WHOLE, sample, prompt, step), seed).astype(np.uint64)
    return (words[..., 0] << _WORD_BITS) | words[..., 1]


def teacher_uniform(seed: ArrayLike, row: ArrayLike, draws: int) -> NDArray[np.float64]:
    """The numbers behind `samples(draws)` of each row, [..., draws]; draw j is the same whatever `draws` is."""
    seeds, rows = np.broadcast_arrays(_seeds(seed), _words(row, 1))
    return uniform_from_words(philox4x32((np.arange(draws), rows[..., None], 0, TEACHER_DOMAIN), seeds[..., None]))


def _words(values: ArrayLike, index: int) -> U64:
    array = np.asarray(values)
    whole = array.dtype.kind in "ui" or array.size == 0
    if not whole or (array.size and not (int(array.min()) >= 0 and int(array.max()) <= _MAX_WORD)):
        name = f"counter[{index}]"
        raise InvalidArgument(f"{name} is not a 32-bit word", field=name, value=_range(array), limit=f"0..{_MAX_WORD}")
    return array.astype(np.uint64)


def _seeds(seed: ArrayLike) -> U64:
    if isinstance(seed, int):
        if not 0 <= seed <= _MAX_SEED:
            raise InvalidArgument("a seed has 64 bits", field="seed", value=seed, limit=f"0..{_MAX_SEED}")
        return np.asarray(seed, np.uint64)
    array = np.asarray(seed)
    if array.dtype.kind not in "ui" or (array.dtype.kind == "i" and array.size and int(array.min()) < 0):
        raise InvalidArgument("seeds are unsigned 64-bit numbers", field="seed", value=_range(array), limit=f"0..{_MAX_SEED}")
    return array.astype(np.uint64)


def _range(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {array.min()}..{array.max()}" if array.size else str(array.dtype)
