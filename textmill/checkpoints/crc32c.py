"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) of large arrays with NumPy: many stretches at once, then put together.

A CRC without its start value is linear: leading zeros change nothing, and the CRC of A and B one after the other is
that of A, moved on by B's length, xor that of B. So a piece is cut into LANES stretches, whose CRCs grow side by side.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

POLYNOMIAL = 0x82F63B78  # reflected
LANES = 1 << 14
STRETCH = 256  # bytes of a lane
PIECE = LANES * STRETCH
ALL = 0xFFFFFFFF

Words = npt.NDArray[np.uint32]


def crc32c(data: npt.NDArray[np.uint8]) -> int:
    """The CRC-32C of bytes [n] uint8."""
    total, first = 0, len(data) % PIECE
    if first:
        padded = np.zeros(PIECE, np.uint8)  # in front, where zeros change nothing
        padded[PIECE - first :] = data[:first]
        total = _piece(padded)
    for start in range(first, len(data), PIECE):
        total = _moved(total, PIECE) ^ _piece(data[start : start + PIECE])
    return total ^ _moved(ALL, len(data)) ^ ALL


def masked(crc: int) -> int:
    """As LevelDB's and TensorFlow's files store it: turned and added to, since CRCs of CRCs are poor."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & ALL


def _piece(data: npt.NDArray[np.uint8]) -> int:
    """The CRC, started with 0, of PIECE bytes."""
    words = np.ascontiguousarray(np.ascontiguousarray(data).view("<u4").reshape(LANES, -1).T)
    tables, crc = _tables(), np.zeros(LANES, np.uint32)
    for low, high in zip(words[::2], words[1::2], strict=True):
        crc = _looked_up(tables[4:], crc ^ low) ^ _looked_up(tables[:4], high)
    length = STRETCH
    while len(crc) > 1:
        crc = _looked_up(_move_tables(length), crc[::2]) ^ crc[1::2]
        length *= 2
    return int(crc[0])


def _looked_up(tables: Words, words: Words) -> Words:
    """Each word's four bytes in tables [4, 256], the last for its lowest byte; the four together."""
    found: Words = tables[3][words & 255]
    found ^= tables[2][(words >> 8) & 255]
    found ^= tables[1][(words >> 16) & 255]
    found ^= tables[0][words >> 24]
    return found


@cache
def _tables() -> Words:
    """[8, 256]: what a byte becomes when 0 to 7 more zero bytes follow it."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    tables = [table]
    for _ in range(7):
        tables.append((tables[-1] >> 8) ^ table[tables[-1] & 255])
    return np.stack(tables)


@cache
def _move_tables(length: int) -> Words:
    """[4, 256]: a CRC moved on by `length` bytes, by its bytes, the lowest last."""
    rows = []
    for shift in (24, 16, 8, 0):
        rows.append([_moved(byte << shift, length) for byte in range(256)])
    return np.array(rows, np.uint32)


def _moved(crc: int, length: int) -> int:
    """A CRC, started with 0, after `length` more zero bytes."""
    power = 0
    while length:
        if length & 1:
            crc = _times(_zero_bytes(power), crc)
        length >>= 1
        power += 1
    return crc


@cache
def _zero_bytes(power: int) -> tuple[int, ...]:
    """The matrix over GF(2), as its 32 columns, of 2**power zero bytes."""
    if power == 0:
        table = _tables()[0]
        return tuple(((1 << bit) >> 8) ^ int(table[(1 << bit) & 255]) for bit in range(32))
    half = _zero_bytes(power - 1)
    return tuple(_times(half, column) for column in half)


def _times(matrix: tuple[int, ...], vector: int) -> int:
    product = 0
    for column in matrix:
        if vector & 1:
            product ^= column
        vector >>= 1
    return product
