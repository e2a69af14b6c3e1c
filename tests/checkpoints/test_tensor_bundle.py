"""Tensor bundles: what TensorFlow wrote is read without it; what it would refuse is refused. TensorFlow judges."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from textmill.checkpoints import crc32c as module
from textmill.checkpoints.crc32c import PIECE, crc32c, masked
from textmill.checkpoints.tensor_bundle import Bundle, Damaged

TENSORS = {
    "model/wte": np.arange(5000, dtype=np.float32).reshape(50, 100),
    "model/ln_f/b": np.float32([1.5, -2.0]),
    "model/none": np.zeros((0, 3), np.float32),
    "step": np.int64(7),
    **{
        f"model/h{i}/attn/c_attn/w": np.full((1, 4, 12), i, np.float32) for i in range(40)
    },  # several blocks of index
}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tensorflow as tf

    prefix = tmp_path_factory.mktemp("bundle") / "model-1"
    names = sorted(TENSORS)
    tensors = [tf.constant(TENSORS[name]) for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    return prefix


def copy_of(prefix: Path, folder: Path) -> Path:
    for path in prefix.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / prefix.name


def test_tensors_are_what_tensorflow_wrote(prefix: Path) -> None:
    bundle = Bundle.open(prefix)
    assert set(bundle.entries) == set(TENSORS)
    for name, wanted in TENSORS.items():
        entry = bundle.entries[name]
        assert (entry.type, entry.shape) == (str(wanted.dtype), wanted.shape), name
        if entry.type == "float32":
            assert np.array_equal(bundle.read(name), wanted)


@pytest.mark.parametrize("place", range(0, 2000, 97))
def test_no_flipped_byte_of_the_index_changes_what_is_read(prefix: Path, tmp_path: Path, place: int) -> None:
    """As TensorFlow's own reader: a block's checksum, or the footer's magic, or a place that cannot be."""
    copy = copy_of(prefix, tmp_path)
    index = Path(f"{copy}.index")
    data = bytearray(index.read_bytes())
    data[place % len(data)] ^= 0x10
    index.write_bytes(bytes(data))
    try:
        entries = Bundle.open(copy).entries
    except Damaged:
        return
    assert entries == Bundle.open(prefix).entries  # a byte that nothing is read from


@pytest.mark.parametrize("length", [0, 10, 47, 48, 200, -1])
def test_an_index_that_is_cut_off_is_refused(prefix: Path, tmp_path: Path, length: int) -> None:
    copy = copy_of(prefix, tmp_path)
    index = Path(f"{copy}.index")
    index.write_bytes(index.read_bytes()[:length])
    with pytest.raises(Damaged):
        Bundle.open(copy)


def test_a_flipped_byte_of_a_tensor_is_seen(prefix: Path, tmp_path: Path) -> None:
    copy = copy_of(prefix, tmp_path)
    bundle = Bundle.open(copy)
    file = bundle.data_file(0)
    data = bytearray(file.read_bytes())
    data[bundle.entries["model/wte"].offset + 8000] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(Damaged, match="the checksum of model/wte does not match its bytes"):
        bundle.read("model/wte")
    assert np.array_equal(bundle.read("model/ln_f/b"), TENSORS["model/ln_f/b"])


def test_data_that_ends_early_is_seen(prefix: Path, tmp_path: Path) -> None:
    copy = copy_of(prefix, tmp_path)
    bundle = Bundle.open(copy)
    bundle.data_file(0).write_bytes(b"short")
    with pytest.raises(Damaged, match="the data ends before model/wte does"):
        bundle.read("model/wte")


def test_divided_tensors_are_refused_by_name_of_the_reason(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"), tensor_names=["a"], shape_and_slices=["4 0,2"], tensors=[tf.zeros(2)]
    )
    with pytest.raises(Damaged, match="divided into slices"):
        Bundle.open(tmp_path / "m")


def test_reading_needs_no_tensorflow(prefix: Path) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from pathlib import Path; from textmill.checkpoints.tensor_bundle import Bundle\n"
        f"print(Bundle.open(Path({str(prefix)!r})).read('model/ln_f/b').tolist())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[1.5, -2.0]"


def test_crc32c_of_the_rfc() -> None:
    """RFC 3720, appendix B.4, and the usual nine digits."""
    assert crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283
    assert crc32c(np.zeros(32, np.uint8)) == 0x8A9136AA
    assert crc32c(np.full(32, 255, np.uint8)) == 0x62A8AB43
    assert crc32c(np.arange(32, dtype=np.uint8)) == 0x46DD794E
    assert crc32c(np.zeros(0, np.uint8)) == 0
    assert masked(0xE3069283) == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("length", [1, 7, 4095, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 77])
def test_crc32c_of_any_length_is_that_of_the_plain_loop(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8)
    google = pytest.importorskip("google_crc32c")
    assert crc32c(data) == google.value(data.tobytes())
    assert module.ALL == 2**32 - 1
