import numpy as np
import pytest
from PIL import Image

from msafusion.data.media import ImageFile, StoredArray
from msafusion.failures import DataError


def saved(tmp_path, shape, dtype: type = np.uint8):
    np.save(tmp_path / "a.npy", np.arange(np.prod(shape)).reshape(shape).astype(dtype))
    return tmp_path / "a.npy"


@pytest.mark.parametrize(
    ("shape", "dtype", "kind_of", "expected"),
    [
        ((8, 6, 3), np.uint8, None, ("map", (3, 8, 6))),
        ((8, 6, 1), np.uint8, None, ("map", (1, 8, 6))),
        ((3, 8, 6), np.uint8, None, ("map", (3, 8, 6))),
        ((5, 8, 6), np.uint8, None, ("video", (1, 5, 8, 6))),
        ((3, 8, 6), np.uint8, "video", ("video", (1, 3, 8, 6))),
        ((4, 8, 6, 3), np.uint8, None, ("video", (3, 4, 8, 6))),
        ((8, 6), np.float64, None, ("sequence", (8, 6))),
        ((8, 6), np.float32, "map", ("map", (8, 6))),
        ((8, 6, 3), np.float32, None, ("map", (8, 6, 3))),
    ],
)
def test_layout_by_type_and_shape_or_as_asked(tmp_path, shape, dtype, kind_of, expected):
    file = saved(tmp_path, shape, dtype)
    extractor = StoredArray.like(file, kind_of=kind_of)
    values = extractor(file).values
    assert (extractor.layout, values.shape) == expected
    assert values.shape[-1 if extractor.layout == "sequence" else 0] == extractor.channels


def test_a_picture_with_channels_last_is_turned(tmp_path):
    file = saved(tmp_path, (2, 4, 3))
    np.testing.assert_array_equal(StoredArray.like(file)(file).values, np.load(file).transpose(2, 0, 1))


def test_layouts_that_an_array_cannot_have(tmp_path):
    with pytest.raises(DataError, match=r"float32 \(8, 6, 3\), expected uint8 \(time, height, width\)"):
        StoredArray.like(saved(tmp_path, (8, 6, 3), np.float32), kind_of="video")
    with pytest.raises(DataError, match=r"expected \(time, channels\)"):
        StoredArray.like(saved(tmp_path, (8, 6, 3)), kind_of="sequence")


def test_sixteen_bits_of_grey_keep_their_upper_eight(tmp_path):
    grey = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        read = ImageFile(8)(tmp_path / name)
        np.testing.assert_array_equal(read.values, np.stack([grey >> 8] * 3))
        assert not read.notes
        Image.fromarray(grey >> 4).save(tmp_path / name)  # 12 bits
        assert any("up to 4032 of 65535: 16 of 256" in note for note in ImageFile(8)(tmp_path / name).notes)


def test_32_bit_grey_is_refused(tmp_path):
    for dtype in (np.int32, np.float32):
        Image.fromarray(np.full((8, 8), 7, dtype)).save(tmp_path / "a.tif")
        with pytest.raises(DataError, match="a picture of 32-bit grey, expected 8 or 16 bits"):
            ImageFile(8)(tmp_path / "a.tif")


def test_what_is_transparent_is_black(tmp_path):
    image = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    image.paste((200, 100, 50, 255), (0, 0, 4, 8))
    image.save(tmp_path / "a.png")
    values = ImageFile(8)(tmp_path / "a.png").values
    assert values[:, 0, 0].tolist() == [200, 100, 50]
    assert values[:, 0, 7].tolist() == [0, 0, 0]


def test_large_values_stay_in_float64_and_too_large_ones_are_named(tmp_path):
    far = np.random.default_rng(0).normal(size=(6, 2)) + 1.6e9
    for name, values in (("far", far), ("whole", np.arange(12.0).reshape(6, 2)), ("large", np.full((6, 2), 1e39))):
        np.save(tmp_path / f"{name}.npy", values)
    reader = StoredArray.like(tmp_path / "far.npy")
    np.testing.assert_array_equal(reader(tmp_path / "far.npy").values, far)
    assert reader(tmp_path / "whole.npy").values.dtype == np.float32
    with pytest.raises(DataError, match=r"large\.npy' holds 1e\+39, which is too large for float32"):
        reader(tmp_path / "large.npy")
