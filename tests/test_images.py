"""Every kind of picture file comes in the same; every file that is no picture says why."""

import json
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import color_profiles
import numpy as np
import pytest
import skimage
import torch
from PIL import Image, ImageCms, features
from PIL._util import DeferredError
from unchanged import unchanged

from segutils import images
from segutils.images import DATA_DIR, MAX_PIXELS, ImageLoadError, load_image, load_mask, resize, sample_images

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def color_at(image: torch.Tensor, x: int, y: int) -> tuple[int, ...]:
    return tuple(image[:, y, x].tolist())


@pytest.fixture
def save(tmp_path):
    """Save a Pillow picture under a name and give the path."""

    def save_as(picture: Image.Image, name: str, **options) -> Path:
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    return save_as


@pytest.fixture
def rgb_picture() -> Image.Image:
    picture = Image.new("RGB", (40, 30), BLUE)
    picture.paste(RED, (0, 0, 10, 10))
    return picture


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.PNG"])
def test_load_image_gives_contiguous_uint8_rgb(save, rgb_picture, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    image = load_image(save(rgb_picture, name, **options))
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40) and image.is_contiguous()
    assert color_at(image, 5, 5) == RED and color_at(image, 20, 20) == BLUE


@pytest.mark.parametrize("name", ["a.jpg", *["a.avif"] * features.check("avif")])
def test_load_image_reads_lossy_formats_nearly_right(save, rgb_picture, name):
    image = load_image(save(rgb_picture, name, quality=95)).int()
    for (x, y), color in (((4, 4), RED), ((30, 20), BLUE)):
        assert image.shape == (3, 30, 40) and (image[:, y, x] - torch.tensor(color)).abs().max() < 8


def test_load_image_takes_str_and_path_and_home(save, rgb_picture, monkeypatch):
    path = save(rgb_picture, "a.png")
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.setenv("USERPROFILE", str(path.parent))
    assert torch.equal(load_image(path), load_image(str(path)))
    assert torch.equal(load_image(path), load_image("~/a.png"))
    assert torch.equal(load_image(path), load_image(Path("~/a.png")))


def test_load_image_turns_by_exif(save, rgb_picture):
    exif = Image.Exif()
    exif[274] = 6  # the camera was held on its side: turn by 90 degrees clockwise
    image = load_image(save(rgb_picture, "a.jpg", exif=exif, quality=100, subsampling=0))
    assert image.shape == (3, 40, 30)
    red, other = image[:, 5, 25].int(), image[:, 5, 5].int()
    assert red[0] > 200 and red[2] < 60  # the red corner has moved from the left to the right
    assert other[2] > 200 and other[0] < 60


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_load_image_lays_alpha_on_white(save, mode):
    picture = Image.new(mode, (3, 1), 0)  # all transparent, black underneath
    picture.putpixel((1, 0), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    picture.putpixel((2, 0), (0, 0, 0, 51) if mode == "RGBA" else (0, 51))
    image = load_image(save(picture, "a.png"))
    assert color_at(image, 0, 0) == WHITE
    assert color_at(image, 1, 0) == (0, 0, 0)
    assert color_at(image, 2, 0) == (204, 204, 204)  # one fifth black


@pytest.mark.parametrize("transparent", [False, True])
def test_load_image_looks_palettes_up(save, transparent):
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    image = load_image(save(picture, "a.png", **({"transparency": 1} if transparent else {})))
    assert color_at(image, 0, 0) == RED and color_at(image, 2, 0) == BLUE
    assert color_at(image, 1, 0) == (WHITE if transparent else GREEN)


def test_load_image_reads_grey_and_black_and_white(save):
    assert color_at(load_image(save(Image.new("L", (2, 2), 77), "grey.png")), 1, 1) == (77, 77, 77)
    assert color_at(load_image(save(Image.new("1", (2, 2), 1), "white.png")), 1, 1) == WHITE


@pytest.mark.parametrize(
    ("dtype", "name"), [("<u2", "a.png"), ("<u2", "a.tif"), (">u2", "a.tif"), ("<i4", "a.tif")]
)
def test_load_image_scales_16_bits(save, dtype, name):
    values = np.array([[0, 257, 1000, 32768, 65535]], dtype)
    path = save(Image.fromarray(values), name)
    assert load_image(path)[0, 0].tolist() == [0, 1, 4, 128, 255]
    assert torch.equal(load_image(path)[0], load_image(path)[2])


def test_load_image_refuses_numbers_without_a_range(save):
    path = save(Image.fromarray(np.array([[0, 70000]], np.int32)), "wide.tif")
    with pytest.raises(ValueError, match=r"wide\.tif.*numbers from 0 to 70000.*Scale it first"):
        load_image(path)
    path = save(Image.fromarray(np.array([[0.5]], np.float32)), "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif.*floating-point"):
        load_image(path)


def test_load_image_converts_cmyk(save):
    image = load_image(save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.jpg", quality=100))
    red, green, blue = color_at(image, 4, 4)
    assert red > 230 and green < 30 and blue < 30


def test_load_image_takes_the_first_frame(save, rgb_picture):
    path = save(rgb_picture, "a.gif", save_all=True, append_images=[Image.new("RGB", (40, 30), GREEN)])
    with Image.open(path) as picture:
        assert picture.n_frames == 2
    image = load_image(path)
    assert image.shape == (3, 30, 40) and color_at(image, 5, 5) == RED


def test_load_image_reads_one_pixel(save):
    assert load_image(save(Image.new("RGB", (1, 1), GREEN), "a.png")).flatten().tolist() == list(GREEN)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "side", [7_072, 10_000, 16_000]
)  # just above ours; Pillow would warn; Pillow would refuse
def test_load_image_checks_the_size_before_decoding(tmp_path, side, monkeypatch, recwarn):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(side, side))
    monkeypatch.setattr(images, "_to_tensor", lambda picture: pytest.fail("decoded"))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r"huge\.png' is too large .*50 million pixels"):
        load_image(path)
    assert Image.MAX_IMAGE_PIXELS == before
    assert not recwarn.list


def test_max_pixels_lies_below_pillows_warning():
    assert MAX_PIXELS < Image.MAX_IMAGE_PIXELS


def test_load_image_missing_file_names_similar_ones(save, rgb_picture, monkeypatch):
    path = save(rgb_picture, "Kitchen.png")
    monkeypatch.chdir(path.parent)
    with pytest.raises(FileNotFoundError) as caught:
        load_image("kitchn.png")
    assert "There is no file 'kitchn.png'" in str(caught.value)
    assert str(path.parent) in str(caught.value)
    assert "Did you mean Kitchen.png?" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="The folder 'photos' does not exist either"):
        load_image("photos/kitchen.png")


def test_load_image_folder_lists_its_pictures(save, rgb_picture, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder.*no pictures in it"):
        load_image(tmp_path / "empty")
    for i in range(6):
        save(rgb_picture, f"p{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(
        IsADirectoryError, match=r"is a folder.*: p0\.png, p1\.png, p2\.png, p3\.png, p4\.png, \.\.\.\."
    ):
        load_image(tmp_path)


@pytest.mark.parametrize(
    "address", ["https://example.org/cat.jpg", "http://a.b/c.png", Path("https://example.org/c.jpg")]
)
def test_load_image_explains_web_addresses(address):
    with pytest.raises(ValueError, match="is a web address. Download the picture"):
        load_image(address)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"", r"is empty \(0 bytes\)"),
        ("a.jpg", b"\n<!DOCTYPE html><html><body>404</body></html>", "looks like a web page"),
        ("a.png", b"404: not found\n", "looks like a text file"),
        ("a.svg", b'<?xml version="1.0"?><svg xmlns="x"></svg>', "SVG drawing"),
        ("a.pdf", b"%PDF-1.7 \xe2\xe3", "PDF document"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "pip install pillow-heif"),
        ("a.png", bytes(range(200, 256)), "Pillow does not know its format"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "damaged or cut short"),
    ],
)
def test_load_image_says_what_a_file_is_instead(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.gif", "a.tif", "a.webp"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_load_image_refuses_truncated_files(save, name, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))
    path = save(noise, name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with unchanged(path.parent):  # no file is touched, and none is added
        with pytest.raises(
            ImageLoadError, match="damaged or cut short|is not a picture that can be read"
        ) as caught:
            load_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("path", [None, 3, b"a.png", torch.zeros(3, 4, 4), ["a.png"]])
def test_load_image_wants_a_path(path):
    with pytest.raises(TypeError, match="load_image takes the path of a file"):
        load_image(path)


# --- colour profiles ----------------------------------------------------------------------------------------

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def as_array(image: torch.Tensor) -> np.ndarray:
    """A picture as [H, W, 3] of whole numbers that can be subtracted."""
    return image.permute(1, 2, 0).numpy().astype(int)


def opened(path: Path) -> np.ndarray:
    """The pixels of a file as Pillow decodes them, colour profile or not."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_adobe_rgb_becomes_srgb(save, name):
    path = save(Image.fromarray(NOISE), name, icc_profile=color_profiles.adobe_rgb())
    with unchanged(path):
        image = as_array(load_image(path))
    decoded = opened(path)
    assert abs(image - color_profiles.adobe_to_srgb(decoded)).max() <= 1
    assert abs(image - decoded).max() > 70


def test_profiles_are_followed_in_every_strip_of_a_large_picture(save):
    tall = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)  # two strips
    image = as_array(load_image(save(Image.fromarray(tall), "a.bmp")))
    assert np.array_equal(image, tall)  # there is no profile in a BMP
    path = save(Image.fromarray(tall), "a.png", icc_profile=color_profiles.adobe_rgb(), compress_level=0)
    assert abs(as_array(load_image(path)) - color_profiles.adobe_to_srgb(tall)).max() <= 1


@pytest.mark.parametrize("profile", [b"", color_profiles.adobe_rgb()], ids=["no profile", "Adobe RGB"])
def test_a_large_picture_is_never_in_memory_three_times(save, profile):
    picture = Image.new("RGB", (4000, 3000), (10, 200, 30))
    path = save(picture, "a.tif", icc_profile=profile)
    code = """
import json, sys
import psutil
from fuzz import most_memory
from segutils import load_image
load_image(sys.argv[1])  # what happens once in a process is done
before = psutil.Process().memory_info().rss
load_image(sys.argv[2])
print(json.dumps(most_memory(psutil.Process()) - before))
"""
    command = [
        sys.executable,
        "-c",
        code,
        str(save(Image.fromarray(NOISE), "small.tif", icc_profile=profile)),
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    # Pillow takes 4 bytes for each pixel and the tensor 3; the rest is one strip on its way.
    assert json.loads(done.stdout) < 12e6 * (4 + 3) + 45e6


@pytest.mark.parametrize("profile", ["ours", "Pillow's"])
def test_a_picture_that_is_srgb_already_keeps_its_numbers(save, profile):
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = save(
        Image.fromarray(NOISE), "a.png", icc_profile=color_profiles.srgb() if profile == "ours" else made
    )
    assert np.array_equal(as_array(load_image(path)), NOISE)


def test_transparent_parts_of_adobe_rgb_are_laid_on_white(save):
    picture = Image.fromarray(np.dstack([NOISE, NOISE[..., 0]]))
    path = save(picture, "a.png", icc_profile=color_profiles.adobe_rgb())
    share = NOISE[..., :1] / 255
    expected = share * color_profiles.adobe_to_srgb(NOISE) + (1 - share) * 255
    assert abs(as_array(load_image(path)) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1", "P"])
def test_grey_and_palette_pictures_with_a_profile_of_colours(save, mode):
    levels = np.arange(256, dtype=np.uint8)[None]
    picture = Image.fromarray(levels.astype(np.uint16) * 257 if mode == "I;16" else levels).convert(mode)
    path = save(picture, "a.png", icc_profile=color_profiles.adobe_rgb())
    shown = np.asarray(picture.convert("L" if mode != "I;16" else "I;16")).astype(int) // (
        257 if mode == "I;16" else 1
    )
    expected = color_profiles.adobe_to_srgb(np.repeat(shown[..., None], 3, -1))
    assert abs(as_array(load_image(path)) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_pictures_with_a_profile_of_grey(save, mode):
    levels = np.arange(256, dtype=np.uint8)[None]
    picture = Image.fromarray(levels.astype(np.uint16) * 257 if mode == "I;16" else levels).convert(mode)
    image = as_array(load_image(save(picture, "a.png", icc_profile=color_profiles.grey(1.8))))
    expected = 255 * color_profiles.light_to_srgb((levels / 255) ** 1.8)
    assert abs(image - expected[..., None]).max() <= 1
    assert image[0, 128, 0] > 128 + 15


def test_cmyk_follows_its_profile(save):
    picture = Image.new("CMYK", (24, 8), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 0), (8, 0, 16, 8))
    picture.paste((0, 0, 0, 255), (16, 0, 24, 8))
    image = as_array(load_image(save(picture, "a.tif", icc_profile=color_profiles.cmyk(cyan=50))))
    # A lightness of 50 is the sRGB grey of 119 (CIE 15: its luminance is 0.184).
    for x, expected in ((4, 255), (12, 119), (20, 0)):
        assert abs(image[4, x] - expected).max() <= 2


ADOBE = color_profiles.adobe_rgb()


@pytest.mark.parametrize(
    ("mode", "profile", "reason"),
    [
        ("RGB", b"no profile at all", "cannot open profile"),
        ("RGB", ADOBE[:100], "cannot open profile"),
        ("RGB", ADOBE[:150] + bytes(len(ADOBE) - 150), "cannot build transform|cannot open profile"),
        ("RGB", color_profiles.cmyk(50), "the profile is for CMYK pictures, and this one has mode RGB"),
        ("RGB", color_profiles.grey(1.8), "the profile is for GRAY pictures, and this one has mode RGB"),
        ("L", color_profiles.cmyk(50), "the profile is for CMYK pictures, and this one has mode L"),
        ("CMYK", ADOBE, "the profile is for RGB pictures, and this one has mode CMYK"),
        ("RGB", ADOBE.replace(b"RGB ", b"Luv "), "the profile is for Luv pictures"),
    ],
)
def test_a_broken_profile_is_ignored_with_a_warning_that_names_the_file(save, mode, profile, reason):
    picture = Image.fromarray(NOISE).convert(mode)
    path, plain = save(picture, "a.tif", icc_profile=profile), save(picture, "plain.tif")
    with pytest.warns(
        UserWarning, match=rf"a\.tif' has a colour profile that is ignored.*: .*({reason})"
    ) as heard:
        image = load_image(path)
    assert len(heard) == 1 and heard[0].filename == __file__  # it points to the line of the caller
    assert torch.equal(image, load_image(plain))


def test_a_pillow_without_littlecms_is_told_apart_from_a_damaged_picture(save, monkeypatch):
    path = save(Image.fromarray(NOISE), "a.png", icc_profile=ADOBE)
    monkeypatch.setattr(ImageCms, "core", DeferredError(ImportError("no LittleCMS")))
    with pytest.warns(UserWarning, match="is ignored.*: no LittleCMS"):
        assert np.array_equal(as_array(load_image(path)), NOISE)


def test_load_mask_does_not_mind_profiles(save):
    picture = Image.fromarray(NUMBERS)
    for profile in (ADOBE, b"no profile at all"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_mask(save(picture, "a.png", icc_profile=profile)).tolist() == NUMBERS.tolist()


# --- load_mask ----------------------------------------------------------------------------------------------

NUMBERS = np.array([[0, 1, 2], [2, 0, 200]], np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.tif"])
def test_load_mask_keeps_the_indices_of_a_palette(save, name):
    picture = Image.fromarray(NUMBERS).convert("P")
    colors = np.random.default_rng(0).integers(
        0, 256, (256, 3), np.uint8
    )  # any colours: they must not matter
    picture.putpalette(colors.tobytes())
    picture.putdata(NUMBERS.ravel())
    options = {"optimize": False} if name.endswith("gif") else {}
    path = save(picture, name, **options)
    with unchanged(path):
        mask = load_mask(path)
    assert mask.dtype == torch.int64 and mask.is_contiguous()
    assert mask.tolist() == NUMBERS.tolist()
    looked_up = load_image(path)  # the picture of the same file shows the colours
    assert color_at(looked_up, 2, 1) == tuple(colors[200].tolist())


def test_load_mask_does_not_mind_transparent_palettes(save):
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    assert load_mask(save(picture, "a.png", transparency=0)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.uint8, "a.png"), ("<u2", "a.png"), ("<u2", "a.tif"), (">u2", "a.tif"), (np.int32, "a.tif"), (bool, "a.png"),
    ],
)  # fmt: skip
def test_load_mask_keeps_the_values_of_grey_pictures(save, dtype, name):
    largest = {1: 255, 2: 65535, 4: 2**31 - 1}[np.dtype(dtype).itemsize] if dtype is not bool else 1
    values = np.array([[0, 1, min(300, largest)], [1, largest, 0]])
    mask = load_mask(save(Image.fromarray(values.astype(dtype)), name))
    assert mask.dtype == torch.int64 and mask.tolist() == values.tolist()


def test_load_mask_turns_by_exif_as_load_image_does(save):
    exif = Image.Exif()
    exif[274] = 6
    mask = load_mask(save(Image.fromarray(NUMBERS), "a.png", exif=exif))
    assert mask.tolist() == np.rot90(NUMBERS, -1).tolist()
    assert load_image(save(Image.fromarray(NUMBERS), "a.png", exif=exif)).shape[1:] == mask.shape


def test_load_mask_takes_the_first_page(save):
    pages = [Image.fromarray(NUMBERS), Image.fromarray(NUMBERS * 0)]
    assert (
        load_mask(save(pages[0], "a.tif", save_all=True, append_images=pages[1:])).tolist()
        == NUMBERS.tolist()
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK", "F"])
def test_load_mask_refuses_what_is_not_one_number_for_each_pixel(save, mode):
    path = save(Image.new(mode, (4, 3)), "a.tif")
    why = r"numbers\. Round them" if mode == "F" else rf"\(mode {mode}\).*its number: image ="
    with unchanged(path), pytest.raises(ImageLoadError, match=rf"a\.tif' is not a mask\. It holds .*{why}"):
        load_mask(path)


def test_what_load_mask_says_of_colours_works(save, rgb_picture):
    image = load_image(save(rgb_picture, "a.png"))
    mask = torch.zeros(image.shape[1:], dtype=torch.int64)
    for number, color in enumerate((RED, BLUE), start=1):
        mask[(image == torch.tensor(color)[:, None, None]).all(0)] = number
    assert mask[5, 5] == 1 and mask[20, 20] == 2 and (mask == 1).sum() == 100 and (mask == 2).sum() == 1100


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"", r"is empty \(0 bytes\)"),
        ("a.png", b"<html>404</html>", "looks like a web page"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
    ],
)
def test_load_mask_checks_files_as_load_image_does(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with unchanged(tmp_path), pytest.raises(ImageLoadError, match=message):
        load_mask(tmp_path / name)


def test_load_mask_refuses_truncated_huge_and_missing_files(save, tmp_path, monkeypatch):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60), np.uint8))
    path = save(noise, "a.png")
    path.write_bytes(path.read_bytes()[:1500])
    with unchanged(tmp_path), pytest.raises(ImageLoadError, match=r"a\.png' is damaged or cut short"):
        load_mask(path)
    path.write_bytes(png_header(16_000, 16_000))
    with pytest.raises(ImageLoadError, match="is too large .*50 million pixels"):
        load_mask(path)
    with pytest.raises(FileNotFoundError, match=r"Did you mean a\.png"):
        load_mask(tmp_path / "b.png")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_mask(tmp_path)
    with pytest.raises(ImageLoadError, match="is a web address"):
        load_mask("https://example.org/mask.png")
    with pytest.raises(TypeError, match="load_mask takes the path of a file"):
        load_mask(NUMBERS)


# --- resize -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "longest_side", "expected"),
    [
        ((30, 40), 20, (15, 20)),
        ((40, 30), 80, (80, 60)),
        ((1, 500), 50, (1, 50)),
        ((33, 10), 10, (10, 3)),
        ((5, 5), 1, (1, 1)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_resize_keeps_proportions_and_dtype(size, longest_side, expected, dtype):
    image = torch.ones(3, *size).to(dtype)
    before = image.clone()
    resized = resize(image, longest_side)
    assert resized.shape == (3, *expected) and resized.dtype == dtype
    torch.testing.assert_close(resized, torch.ones_like(resized))  # exact for uint8
    assert torch.equal(image, before)


def test_resize_is_antialiased():
    stripes = torch.zeros(3, 64, 64)
    stripes[:, :, ::2] = 1
    # Without antialiasing every eighth column would be picked: all black or all white.
    inner = resize(stripes, 8)[..., 1:-1]
    assert torch.allclose(inner, torch.full_like(inner, 0.5), atol=0.05)


def test_resize_gives_a_new_tensor():
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    resize(image, 6).fill_(9)
    assert image.sum() == 0


@pytest.mark.parametrize("longest_side", [0, -5])
def test_resize_refuses_sizes_below_one(longest_side):
    with pytest.raises(ValueError, match=f"Cannot resize 4 x 3 pixels to a longest side of {longest_side}"):
        resize(torch.zeros(3, 3, 4), longest_side)


@pytest.mark.parametrize("longest_side", [2.0, "2", None, True])
def test_resize_refuses_other_than_whole_numbers(longest_side):
    with pytest.raises(TypeError, match="whole number of pixels"):
        resize(torch.zeros(3, 3, 4), longest_side)


def test_resize_refuses_giants_and_nothing():
    with pytest.raises(ValueError, match="would make a picture of 1000000 x 750000 pixels"):
        resize(torch.zeros(3, 3, 4), 1_000_000)
    with pytest.raises(ValueError, match="Cannot resize 4 x 0 pixels"):
        resize(torch.zeros(3, 0, 4), 2)


@pytest.mark.parametrize("image", [torch.zeros(4, 4), torch.zeros(1, 3, 4, 4), np.zeros((3, 4, 4)), "a.png"])
def test_resize_refuses_what_is_no_picture(image):
    with pytest.raises(TypeError, match=r"one picture, a tensor \[3, H, W\]"):
        resize(image, 2)


@pytest.mark.parametrize("channels", [1, 5])  # ids, and masks as `make_target` gives them
def test_resize_does_not_take_uint8_numbers_for_a_photograph(channels):
    with pytest.raises(
        TypeError, match=rf"not \[{channels}, 4, 6\]: masks and class numbers cannot be blended"
    ):
        resize(torch.zeros(channels, 4, 6, dtype=torch.uint8), 3)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_resize_refuses_masks(dtype):
    with pytest.raises(TypeError, match="masks and class numbers cannot be blended"):
        resize(torch.zeros(3, 4, 4, dtype=dtype), 2)


# --- sample_images ------------------------------------------------------------------------------------------

PHOTOGRAPHS = ["astronaut", "chelsea", "coffee", "coins", "grace_hopper", "hubble", "ihc"]


def test_data_dir_lies_beside_or_inside_the_package():
    assert DATA_DIR.name == "data"
    assert DATA_DIR.parent in (Path(images.__file__).parent, Path(images.__file__).parent.parent)


def test_sample_images_are_sorted_files_of_installed_libraries(monkeypatch, tmp_path):
    monkeypatch.setattr(images, "DATA_DIR", tmp_path)  # a data folder without scenes
    samples = sample_images()
    assert list(samples) == PHOTOGRAPHS
    for path in samples.values():
        assert path.is_file()
    assert samples["coins"].parent.parent == Path(skimage.__file__).parent
    assert load_image(samples["coins"]).shape == (3, 303, 384)
    assert load_image(samples["grace_hopper"]).shape == (3, 600, 512)


def test_sample_images_find_the_scenes(monkeypatch, tmp_path):
    (tmp_path / "scenes").mkdir()
    for name in ("scene_02.png", "scene_01.png", "instances.json"):
        (tmp_path / "scenes" / name).touch()
    monkeypatch.setattr(images, "DATA_DIR", tmp_path)
    samples = sample_images()
    assert list(samples) == [*PHOTOGRAPHS, "scene_01", "scene_02"]
    assert samples["scene_01"] == tmp_path / "scenes" / "scene_01.png"


def test_sample_images_miss_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(images, "DATA_DIR", tmp_path / "data")
    with pytest.raises(FileNotFoundError, match="The data folder .* is missing"):
        sample_images()


def test_sample_images_miss_a_photograph(monkeypatch, tmp_path):
    monkeypatch.setattr(images, "DATA_DIR", tmp_path)
    monkeypatch.setattr(images, "_SKIMAGE_SAMPLES", {"coins": "no_coins.png"})
    with pytest.raises(FileNotFoundError, match=r"no_coins\.png' is missing. Install its library again"):
        sample_images()
