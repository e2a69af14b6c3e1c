"""Products of few rows with a large matrix on a CPU, for decoding: compiled by Numba, as fast as memory allows.

A matrix [K, N] is kept in panels of WIDTH columns, each panel read from front to back; `packed` makes them. A tile is
some rows times one panel, held in registers over the whole sum. Each result is summed over K in one order, whatever
the number of rows: a row's bits do not depend on the rows beside it. (No library promises that, and XLA's and oneDNN's
products of one row stream a matrix at half of what memory gives.)

Kinds of matrices: "bfloat16", two rows of K side by side, multiplied by the processor's instruction for pairs where it
has one; "float32"; "int8", a column's numbers as multiples of its largest over 127. Left sides are of the same kind
(bfloat16 as its bits, uint16), beside int8 bfloat16; sums are float32.

Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from textmill.devices import INT8, cpu_features

WIDE = "avx512f" in cpu_features()
LANES = 16 if WIDE else 8  # floats of a register
VECTORS = 4 if WIDE else 2  # registers across a panel
WIDTH = LANES * VECTORS
ROWS = 6  # most rows of a tile: with the panel's, as many registers as there are
PAIRS = WIDE and "avx512_bf16" in cpu_features()  # has the instruction for pairs

KINDS = {"float32": np.float32, "bfloat16": np.uint16}  # of left sides

# Kernels are called from several threads at once and must not hold the interpreter.
compiled = functools.partial(numba.njit, nogil=True, error_model="numpy", boundscheck=False)


def kept(function: Any) -> Any:
    """Compiled, and kept on disk for the next process where there is a place for it: compiling takes seconds.

    For the function that is called from Python; those that it calls are kept with it. Numba keeps a kernel for each
    processor that it was compiled on: on another one it is compiled anew.
    """
    place = _place()
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(place)
    try:
        place.mkdir(parents=True, exist_ok=True)
        return compiled(cache=True)(function)
    except (OSError, RuntimeError):  # nowhere to write
        return compiled(function)
    finally:
        numba.config.CACHE_DIR = before


def _place() -> Path:
    """Where kernels are kept: by the text of all of them, as Numba itself looks only at the file of the one.

    An image brings some along in TEXTMILL_KERNELS, which may be read-only (tools/warm_kernels.py). The first process
    begins with a copy, some MB.
    """
    name = f"kernels-{_sources()}"
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textmill" / name
    brought = Path(os.environ.get("TEXTMILL_KERNELS") or os.devnull) / "textmill" / name
    beside = place.with_name(f"{name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # nowhere to write, or another process was first
        if brought.is_dir() and not place.exists():
            shutil.copytree(brought, beside)
            beside.rename(place)
    shutil.rmtree(beside, ignore_errors=True)
    return place


def _sources() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


# Sums in any order, but in the same one at each call: vectors of partial sums.
summing = functools.partial(compiled, fastmath={"reassoc", "contract", "nsz"})

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)


def left_of(kind: str) -> str:
    """The kind of the left sides beside matrices of this kind."""
    return "bfloat16" if kind == INT8 else kind


def pair_of(kind: str) -> int:
    """How many rows of a matrix lie side by side."""
    return 4 // np.dtype(KINDS[kind]).itemsize


def packed(matrices: Sequence[npt.NDArray[np.float32]], kind: str) -> npt.NDArray[Any]:
    """Matrices of one shape [K, N] in panels: [matrices, panels, K, WIDTH], for bfloat16 [.., K/2, 2 * WIDTH].

    Columns are padded with zeros to whole panels, and bfloat16's rows to pairs. Lines of 64 bytes are aligned.
    """
    rows, columns = matrices[0].shape
    panels, pair = -(-columns // WIDTH), pair_of(kind)
    shape = (len(matrices), panels, -(-rows // pair), WIDTH * pair)
    made = aligned(shape, KINDS[kind])
    for matrix, into in zip(matrices, made, strict=True):
        for panel in range(panels):  # one at a time: no second copy of a large matrix
            part = matrix[:, panel * WIDTH : (panel + 1) * WIDTH]
            part = np.pad(part, [(0, -rows % pair), (0, WIDTH - part.shape[1])])
            part = part.reshape(-1, pair, WIDTH).swapaxes(1, 2).reshape(shape[2:])
            into[panel] = part if kind == "float32" else part.astype(ml_dtypes.bfloat16).view(np.uint16)
    return made


def quantized(
    matrices: Sequence[npt.NDArray[np.float32]],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Matrices of one shape [K, N] as int8 in panels [matrices, panels, K, WIDTH], K filled up to pairs, and what their
    columns count [matrices, panels, WIDTH]: a column's largest number over 127. Rounding is to the nearest.
    """
    rows, columns = matrices[0].shape
    panels = -(-columns // WIDTH)
    made = aligned((len(matrices), panels, rows + rows % 2, WIDTH), np.int8)
    scales = np.ones((len(matrices), panels, WIDTH), np.float32)
    for matrix, into, scale in zip(matrices, made, scales, strict=True):
        for panel in range(panels):
            part = matrix[:, panel * WIDTH : (panel + 1) * WIDTH]
            largest = np.abs(part).max(axis=0, initial=0)
            one = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
            scale[panel, : len(one)] = one
            into[panel, :rows, : len(one)] = np.rint(part / one)
    return made, scales


def aligned(shape: Sequence[int], kind: Any) -> npt.NDArray[Any]:
    """Zeros that begin at a line of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(kind).reshape(shape)


@intrinsic
def apart(typing: Any) -> Any:
    """The function that calls this is compiled once and not again into each of its callers, which takes seconds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


# ---------------------------------------------------------------------- numbers


@intrinsic
def pair_in(typing: Any, like: Any) -> Any:
    """How many rows lie side by side in a panel of such numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), 2 if signature.args[0].bitwidth == 16 else 1)

    return types.int64(like), generate


@intrinsic
def as_float(typing: Any, bits: Any) -> Any:
    """The float32 of these 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), generate


@intrinsic
def widen(typing: Any, kept: Any) -> Any:
    """float32 of a number as it is kept: float32, bfloat16's bits, or int8."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[0] == types.float32:
            return arguments[0]
        if signature.args[0] == types.int8:
            return builder.sitofp(arguments[0], _FLOAT)
        bits = builder.shl(builder.zext(arguments[0], _INT), ir.Constant(_INT, 16))
        return builder.bitcast(bits, _FLOAT)

    return types.float32(kept), generate


@intrinsic
def narrow(typing: Any, value: Any, like: Any) -> Any:
    """A float32 as it is kept in arrays of `like`'s type, rounded to the nearest (ties to even); no NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.return_type == types.float32:
            return arguments[0]
        bits = builder.bitcast(arguments[0], _INT)
        odd = builder.and_(builder.lshr(bits, ir.Constant(_INT, 16)), ir.Constant(_INT, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(_INT, 0x7FFF)))
        return builder.trunc(builder.lshr(rounded, ir.Constant(_INT, 16)), ir.IntType(16))

    return like(types.float32, like), generate


@compiled(inline="always")
def exponential(x: float) -> float:
    """e**x for x <= 0 as float32 arithmetic that becomes vectors; 2e-7 relative, 0 below -87."""
    low = np.float32(-87.0)
    bounded = max(x, low)
    whole = np.floor(bounded * np.float32(1.44269504) + np.float32(0.5))
    rest = bounded - whole * np.float32(0.693359375)
    rest = rest + whole * np.float32(2.12194440e-4)
    value = np.float32(1.9875691500e-4)
    value = value * rest + np.float32(1.3981999507e-3)
    value = value * rest + np.float32(8.3334519073e-3)
    value = value * rest + np.float32(4.1665795894e-2)
    value = value * rest + np.float32(1.6666665459e-1)
    value = value * rest + np.float32(5.0000001201e-1)
    value = value * rest * rest + rest + np.float32(1)
    scale = as_float((np.int32(whole) + np.int32(127)) << np.int32(23))
    return value * scale if x > low else np.float32(0)


# ---------------------------------------------------------------------- tiles


class _BFloat(ir.types._BaseFloatType):
    """LLVM's bfloat, which llvmlite does not name."""

    null, intrinsic_name = "0.0", "bf16"

    def __str__(self) -> str:
        return "bfloat"


_BFloat._create_instance()


def _tile(rows: int) -> Any:
    """The compiled tile of so many rows: tile(x, stride, panel, count, out, out_stride, like), addresses and bytes.

    x holds `rows` left sides, `stride` bytes apart, `panel` count rows (pairs of rows) of a panel; out [rows] lines of
    WIDTH float32, `out_stride` bytes apart. `like` is a number of the panel's kind.
    """
    vector = ir.VectorType(_FLOAT, LANES)
    bits = ir.VectorType(_INT, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        x, stride, panel, count, out, out_stride, _ = arguments
        whole_floats, bytes_only = (signature.args[-1] == kind for kind in (types.float32, types.int8))
        word = x.type
        step = ir.Constant(word, 4)
        lines = [builder.add(x, builder.mul(stride, ir.Constant(word, r))) for r in range(rows)]

        def at(address: Any, kind: Any, align: int) -> Any:
            return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)

        def splat(value: Any, kind: Any) -> Any:
            one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))

        def multiply_add(left: Any, right: Any, total: Any) -> Any:
            kind = ir.FunctionType(vector, [vector] * 3)
            instruction = builder.module.declare_intrinsic(f"llvm.fma.v{LANES}f32", (), kind)
            return builder.call(instruction, [left, right, total])

        def halves(pairs: Any) -> list[Any]:
            """The even and the odd numbers of bfloat16's pairs, as floats."""
            sixteen, high = (ir.Constant(bits, [value] * LANES) for value in (16, -65536))
            found = builder.shl(pairs, sixteen), builder.and_(pairs, high)
            return [builder.bitcast(half, vector) for half in found]

        def paired(even: Any, odd: Any) -> Any:
            """bfloat16's pairs of floats that bfloat16 holds without rounding."""
            sixteen, high = (ir.Constant(bits, [value] * LANES) for value in (16, -65536))
            low = builder.lshr(builder.bitcast(even, bits), sixteen)
            return builder.or_(low, builder.and_(builder.bitcast(odd, bits), high))

        def floats(address: Any) -> Any:
            small = at(address, ir.VectorType(ir.IntType(8), LANES), 1)
            return builder.sitofp(builder.sext(small, bits), vector)

        def right_side(address: Any) -> Any:
            """A register's columns of the panel: floats, pairs, or the floats of two rows."""
            if whole_floats:
                return at(address, vector, 4)
            if not bytes_only:
                return at(address, bits, 4) if PAIRS else halves(at(address, bits, 4))
            two = [floats(address), floats(builder.add(address, ir.Constant(word, WIDTH)))]
            return paired(*two) if PAIRS else two

        def left_side(address: Any) -> Any:
            if whole_floats:
                return splat(at(address, _FLOAT, 4), vector)
            pairs = splat(at(address, _INT, 4), bits)
            return pairs if PAIRS else halves(pairs)

        def add(total: Any, left: Any, right: Any) -> Any:
            if whole_floats:
                return multiply_add(left, right, total)
            if PAIRS:
                pair = ir.VectorType(_BFloat(), 2 * LANES)
                name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * LANES}"
                instruction = builder.module.declare_intrinsic(
                    name, (), ir.FunctionType(vector, [vector, pair, pair])
                )
                return builder.call(
                    instruction, [total, builder.bitcast(left, pair), builder.bitcast(right, pair)]
                )
            for one, other in zip(left, right, strict=True):
                total = multiply_add(one, other, total)
            return total

        before = builder.block
        loop = builder.append_basic_block("sum")
        after = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(word)
        index.add_incoming(ir.Constant(word, 0), before)
        sums = [[builder.phi(vector) for _ in range(VECTORS)] for _ in range(rows)]
        offset = builder.mul(index, step)
        line_size, size = (2 * WIDTH, LANES) if bytes_only else (4 * WIDTH, 4 * LANES)
        place = builder.add(panel, builder.mul(index, ir.Constant(word, line_size)))
        right = [right_side(builder.add(place, ir.Constant(word, size * v))) for v in range(VECTORS)]
        totals = []
        for r in range(rows):
            left = left_side(builder.add(lines[r], offset))
            totals.append([add(sums[r][v], left, right[v]) for v in range(VECTORS)])
        following = builder.add(index, ir.Constant(word, 1))
        index.add_incoming(following, builder.block)
        for r in range(rows):
            for v in range(VECTORS):
                sums[r][v].add_incoming(ir.Constant(vector, [0.0] * LANES), before)
                sums[r][v].add_incoming(totals[r][v], builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        for r in range(rows):
            line = builder.add(out, builder.mul(out_stride, ir.Constant(word, r)))
            for v in range(VECTORS):
                address = builder.add(line, ir.Constant(word, 4 * LANES * v))
                builder.store(totals[r][v], builder.inttoptr(address, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(
        typing: Any, x: Any, stride: Any, panel: Any, count: Any, out: Any, out_stride: Any, like: Any
    ) -> Any:
        return types.void(*[types.intp] * 6, like), generate

    def call(x: int, stride: int, panel: int, count: int, out: int, out_stride: int, like: float) -> None:
        tile(x, stride, panel, count, out, out_stride, like)

    # Numba tells functions of one name apart by a number that each process counts anew: a process that loads kernels
    # kept by two others would give the one the tiles of the other, for another number of rows.
    call.__qualname__ = f"tile_of_{rows}"
    return compiled(call)


_one, _two, _three, _four, _five, _six = (_tile(rows) for rows in range(1, ROWS + 1))


@compiled
def multiply(x: Any, rows: int, panel: Any, out: Any) -> None:
    """The product of rows 0 to `rows` of x [R, K] with one panel, into out [R, WIDTH]."""
    apart()
    start, stride, count = x.ctypes.data, x.strides[0], x.shape[1] * x.itemsize // 4
    into, line, address, like = out.ctypes.data, out.strides[0], panel.ctypes.data, panel[0, 0]
    for row in range(0, rows, ROWS):
        left = rows - row
        source, target = start + row * stride, into + row * line
        if left >= ROWS:
            _six(source, stride, address, count, target, line, like)
        elif left == 5:
            _five(source, stride, address, count, target, line, like)
        elif left == 4:
            _four(source, stride, address, count, target, line, like)
        elif left == 3:
            _three(source, stride, address, count, target, line, like)
        elif left == 2:
            _two(source, stride, address, count, target, line, like)
        else:
            _one(source, stride, address, count, target, line, like)


@intrinsic
def counts(typing: Any, like: Any) -> Any:
    """Do numbers of this kind count what their column says?"""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(1), int(signature.args[0] == types.int8))

    return types.boolean(like), generate


@compiled
def product(x: Any, rows: int, panel: Any, scale: Any, out: Any) -> None:
    """As `multiply`, with what the panel's columns count, scale [WIDTH], where the panel is int8."""
    multiply(x, rows, panel, out)
    if counts(panel[0, 0]):
        for row in range(rows):
            for i in range(WIDTH):
                out[row, i] *= scale[i]
