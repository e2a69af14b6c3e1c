"""Products in panels: equal to NumPy's, and a row's bits do not depend on the rows beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba")

from textmill.models.tiles import (
    KINDS,
    WIDTH,
    aligned,
    compiled,
    exponential,
    multiply,
    narrow,
    packed,
    product,
    quantized,
    widen,
)


def as_kept(values: np.ndarray, kind: str) -> np.ndarray:
    return values if kind == "float32" else values.astype(ml_dtypes.bfloat16).view(np.uint16)


def as_float(kept: np.ndarray) -> np.ndarray:
    return kept if kept.dtype == np.float32 else kept.view(ml_dtypes.bfloat16).astype(np.float32)


def left(rows: int, inputs: int, kind: str) -> np.ndarray:
    """A left side [rows, inputs], padded to pairs."""
    drawn = np.random.default_rng(1).uniform(-1, 1, (rows, inputs)).astype(np.float32)
    x = aligned((rows, inputs + inputs % 2), KINDS[kind])
    x[:, :inputs] = as_kept(drawn, kind)
    return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [1, 2, 31, 100])
def test_products_are_those_of_numpy(kind: str, inputs: int) -> None:
    columns = 2 * WIDTH - 5
    matrices = np.random.default_rng(0).uniform(-1, 1, (2, inputs, columns)).astype(np.float32)
    panels = packed(matrices, kind)
    x = left(14, inputs, kind)
    x = x if kind == "bfloat16" else np.ascontiguousarray(x[:, :inputs])
    expected = as_float(x[:, :inputs]).astype(np.float64) @ as_float(as_kept(matrices[1], kind)).astype(
        np.float64
    )
    for rows in range(1, 15):
        out = np.full((14, panels.shape[1] * WIDTH), 7, np.float32)
        for panel in range(panels.shape[1]):
            multiply(x, rows, panels[1, panel], out[:, panel * WIDTH : (panel + 1) * WIDTH])
        np.testing.assert_allclose(out[:rows, :columns], expected[:rows], atol=1e-5)
        assert (out[:rows, columns:] == 0).all(), "padding"
        assert (out[rows:] == 7).all(), "no other row is written"


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_bits_beside_any_others(kind: str) -> None:
    matrix = np.random.default_rng(0).standard_normal((300, WIDTH)).astype(np.float32)
    [[panel]] = packed([matrix], kind)
    x, whole, alone = left(13, 300, kind), np.zeros((13, WIDTH), np.float32), np.zeros((1, WIDTH), np.float32)
    multiply(x, 13, panel, whole)
    for row in range(13):
        multiply(x[row:], 1, panel, alone)
        assert (alone[0] == whole[row]).all()


@pytest.mark.parametrize("inputs", [1, 2, 31, 100])
def test_products_with_int8_are_those_of_the_rounded_matrix(inputs: int) -> None:
    columns = 2 * WIDTH - 5
    matrices = np.random.default_rng(0).uniform(-1, 1, (2, inputs, columns)).astype(np.float32)
    matrices[1, :, 3] = 0
    panels, scales = quantized(matrices)
    whole = (
        panels[1].swapaxes(0, 1).reshape(panels.shape[2], -1)[:inputs, :columns]
        * scales[1].reshape(-1)[:columns]
    )
    assert (np.abs(whole - matrices[1]) <= np.abs(matrices[1]).max(axis=0) / 254 * 1.001).all(), "half a step"
    x = left(14, inputs, "bfloat16")
    expected = as_float(x[:, :inputs]).astype(np.float64) @ whole.astype(np.float64)
    for rows in range(1, 15):
        out = np.full((14, panels.shape[1] * WIDTH), 7, np.float32)
        for panel in range(panels.shape[1]):
            into = out[:, panel * WIDTH : (panel + 1) * WIDTH]
            product(x, rows, panels[1, panel], scales[1, panel], into)
        np.testing.assert_allclose(out[:rows, :columns], expected[:rows], atol=1e-5)
        assert (out[rows:] == 7).all(), "no other row is written"
    alone = np.zeros((1, WIDTH), np.float32)
    product(x[9:], 1, panels[1, 0], scales[1, 0], alone)
    assert (alone[0] == out[9, :WIDTH]).all(), "the same bits beside any others"


def test_numbers_are_narrowed_to_the_nearest() -> None:
    @compiled
    def all_of(values: np.ndarray, into: np.ndarray, back: np.ndarray) -> None:
        for i in range(len(values)):
            into[i] = narrow(values[i], into[i])
            back[i] = widen(into[i])

    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    drawn = bits.view(np.float32)
    ties = [0, -0.0, 1.00390625, 1.01171875]
    values = np.append(drawn[np.isfinite(drawn)], ties).astype(np.float32)
    into, back = np.zeros(len(values), np.uint16), np.zeros(len(values), np.float32)
    all_of(values, into, back)
    assert (into == values.astype(ml_dtypes.bfloat16).view(np.uint16)).all()
    assert (back.view(np.uint32) == into.astype(np.uint32) << 16).all()
    exact = np.zeros(len(values), np.float32)
    all_of(values, exact, back)
    assert (exact == values).all()


def test_exponential() -> None:
    @compiled
    def all_of(values: np.ndarray, into: np.ndarray) -> None:
        for i in range(len(values)):
            into[i] = exponential(values[i])

    values = np.append(np.linspace(-86.9, 0, 100_001), [-88, -1e30, -np.inf]).astype(np.float32)
    into = np.zeros(len(values), np.float32)
    all_of(values, into)
    np.testing.assert_allclose(into[:-3], np.exp(values[:-3].astype(np.float64)), rtol=3e-7)
    assert into[100_000:].tolist() == [1, 0, 0, 0]


KEPT = """
from textmill.models.tiles import kept

@kept
def twice(x):
    return 2 * x

print(twice(3), sum(twice.stats.cache_hits.values()) if hasattr(twice, "stats") else 0)
"""


def uses_kept(folder: Path, place: Path, *arguments: str, text: str = KEPT, **environment: str) -> str:
    """What a fresh process prints: the product, and how many kernels it did not compile."""
    script = folder / "small.py"
    script.write_text(text)
    made = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(place), "PYTHONPATH": os.getcwd(), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def test_kernels_are_kept_for_the_next_process_where_there_is_a_place(tmp_path: Path) -> None:
    assert [uses_kept(tmp_path, tmp_path / "cache") for _ in range(2)] == ["6 0", "6 1"]
    assert uses_kept(tmp_path, tmp_path / "small.py") == "6 0", "a file is no place"


def test_kernels_that_an_image_brings_are_used_from_a_place_of_their_own(tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    uses_kept(tmp_path, brought)
    before = {path: path.stat().st_mtime_ns for path in brought.rglob("*")}
    for _ in range(2):
        assert uses_kept(tmp_path, tmp_path / "cache", TEXTMILL_KERNELS=str(brought)) == "6 1"
    assert {path: path.stat().st_mtime_ns for path in brought.rglob("*")} == before
    assert len(list((tmp_path / "cache" / "textmill").iterdir())) == 1, "nothing half copied is left"
    assert uses_kept(tmp_path, tmp_path / "small.py", TEXTMILL_KERNELS=str(brought)) == "6 0", (
        "nowhere to copy to"
    )


def test_kernels_of_another_processor_are_not_run(tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    uses_kept(tmp_path, brought, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+sse2")
    assert uses_kept(tmp_path, tmp_path / "cache", TEXTMILL_KERNELS=str(brought)) == "6 0"
    assert uses_kept(tmp_path, tmp_path / "cache", TEXTMILL_KERNELS=str(brought)) == "6 1"


KEPT_TILES = """
import sys
import numpy as np
from textmill.models import tiles
from textmill.models.tiles import WIDTH, kept

five, six = tiles._five, tiles._six

@kept
def by_five(x, panel, out):
    five(x.ctypes.data, x.strides[0], panel.ctypes.data, x.shape[1], out.ctypes.data, out.strides[0], panel[0, 0])

@kept
def by_six(x, panel, out):
    six(x.ctypes.data, x.strides[0], panel.ctypes.data, x.shape[1], out.ctypes.data, out.strides[0], panel[0, 0])

x, panel, out = np.ones((6, 3), np.float32), np.ones((3, WIDTH), np.float32), np.zeros((6, WIDTH), np.float32)
for name in sys.argv[1:]:
    {"five": by_five, "six": by_six}[name](x, panel, out)
    print(int((out[:, 0] == 3).sum()), end=" ")
    out[:] = 0
"""


def test_kernels_kept_by_two_processes_do_not_take_each_others_tiles(tmp_path: Path) -> None:
    """Numba's own names for two functions of one name begin with the same number in each process."""
    for names, filled in ((["five"], "5"), (["six"], "6"), (["five", "six"], "5 6")):
        assert uses_kept(tmp_path, tmp_path / "cache", *names, text=KEPT_TILES) == filled
