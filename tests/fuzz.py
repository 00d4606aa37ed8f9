"""Broken picture files, thousands of them, through load_image. `python tests/fuzz.py COUNT` prints a report in JSON.

The files are made from small whole ones by a random number generator with a seed: bytes are changed, the end is cut
off, the beginning comes from a file of another format, or the size in the header is a lie.
"""

import io
import json
import re
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

import color_profiles
import numpy as np
import psutil
import torch
from PIL import Image

from segutils.images import DATA_DIR, ImageLoadError, load_image


def whole_files() -> dict[str, bytes]:
    """Small pictures in every format and in the kinds that the format knows: name -> content."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
    noise[8:40, 8:56] = (200, 90, 30, 255)
    rgba = Image.fromarray(noise, "RGBA")
    rgb, grey, palette = rgba.convert("RGB"), rgba.convert("L"), rgba.convert("RGB").quantize(64)
    deep = Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21)
    exif = Image.Exif()
    exif[274] = 6
    profile = {"icc_profile": color_profiles.adobe_rgb()}
    pages = {"save_all": True, "append_images": [rgb.rotate(180)]}
    kinds = {
        "png": [
            (rgb, {}), (rgba, {}), (palette, {"transparency": 3}), (grey, {}), (deep, {}), (grey.convert("1"), {}),
            (rgb, profile),
        ],
        "jpeg": [
            (rgb, {}), (grey, {}), (rgb, {"progressive": True}), (rgb, {"exif": exif}), (rgb.convert("CMYK"), {}),
            (rgb, profile), (rgb.convert("CMYK"), {"icc_profile": color_profiles.cmyk(50)}),
        ],
        "gif": [(palette, {}), (palette, pages | {"loop": 0})],
        "bmp": [(rgb, {}), (palette, {}), (grey.convert("1"), {})],
        "tiff": [
            (rgb, {}), (rgb, {"compression": "tiff_lzw"}), (rgb, {"compression": "jpeg"}), (deep, {}), (rgb, pages),
            (grey.convert("1"), {"compression": "group4"}), (rgba, {"compression": "tiff_adobe_deflate"}),
            (grey, {"icc_profile": color_profiles.grey(1.8)}),
        ],
        "webp": [(rgb, {}), (rgba, {"lossless": True}), (rgba, {"quality": 30}), (rgb, pages), (rgba, profile)],
    }  # fmt: skip
    files = {}
    for kind, pictures in kinds.items():
        for number, (picture, options) in enumerate(pictures):
            buffer = io.BytesIO()
            picture.save(buffer, kind, **options)
            files[f"{number}.{kind}"] = buffer.getvalue()
    return files


def change_bytes(content: bytes, _: str, others: list[bytes], random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    end = random.choice([64, len(content)])  # often in the header, where it hurts most
    for _ in range(random.choice([1, 2, 8, 64])):
        changed[random.integers(min(end, len(changed)))] = random.integers(256)
    return bytes(changed)


def change_profile(content: bytes, kind: str, others: list[bytes], random: np.random.Generator) -> bytes:
    """Change bytes of the colour profile, above all of its first tags; of a file without one, any bytes."""
    middle = content.find(b"acsp")
    if middle < 0:
        return change_bytes(content, kind, others, random)
    changed = bytearray(content)
    for _ in range(random.choice([1, 2, 8])):
        changed[random.integers(middle - 36, min(middle + 400, len(content)))] = random.integers(256)
    return bytes(changed)


def cut(content: bytes, _: str, others: list[bytes], random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content))]


def swap_header(content: bytes, _: str, others: list[bytes], random: np.random.Generator) -> bytes:
    length = random.choice([2, 4, 8, 16, 64])
    return others[random.integers(len(others))][:length] + content[length:]


def repeat_or_drop(content: bytes, _: str, others: list[bytes], random: np.random.Generator) -> bytes:
    start, end = sorted(random.integers(len(content), size=2))
    return content[:end] + content[start:] if random.random() < 0.5 else content[:start] + content[end:]


def lie_about_the_size(content: bytes, kind: str, others: list[bytes], random: np.random.Generator) -> bytes:
    """Another width and height in the header, from nothing to more than is allowed."""
    sizes = [0, 1, 63, 65, 1000, 7000, 7071, 16_000, 65_535]
    width, height = (int(random.choice(sizes)) for _ in range(2))
    changed = bytearray(content)
    if kind == "png":
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(
            ">I", zlib.crc32(bytes(changed[12:29]))
        )  # or the lie would be found out at once
    elif kind == "gif":
        changed[6:10] = struct.pack("<HH", width, height)
    elif kind == "bmp":
        changed[18:26] = struct.pack("<ii", width, height * int(random.choice([-1, 1])))
    elif kind == "jpeg":
        frame = next(i for i in range(len(content)) if content[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
        changed[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    elif kind == "tiff":
        [start] = struct.unpack_from("<I", content, 4)
        [entries] = struct.unpack_from("<H", content, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, type_ = struct.unpack_from("<HH", content, entry)
            if tag in (256, 257):
                changed[entry + 8 : entry + 12] = struct.pack("<I" if type_ == 4 else "<HH", *(
                    [(width, height)[tag - 256]] if type_ == 4 else [(width, height)[tag - 256], 0]
                ))  # fmt: skip
    elif kind == "webp":
        where, lies = {
            b"VP8 ": (26, struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)),
            b"VP8L": (21, struct.pack("<I", (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14)),
            b"VP8X": (
                24,
                struct.pack("<I", max(width - 1, 0))[:3] + struct.pack("<I", max(height - 1, 0))[:3],
            ),
        }[content[12:16]]
        changed[where : where + len(lies)] = lies
    return bytes(changed)


def report(count: int) -> dict:
    """Put `count` broken files through load_image, and tell what came of them."""
    files = whole_files()
    mutations = (change_bytes, change_profile, cut, swap_header, repeat_or_drop, lie_about_the_size)
    outcomes, wrong, slowest, hungriest = Counter(), [], (0.0, ""), (0, "")
    process, contents = psutil.Process(), list(files.values())
    load_image(DATA_DIR / "scenes" / "empty.png")  # what happens once in a process is done
    before = process.memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            name = list(files)[number % len(files)]
            mutate, random = mutations[number // len(files) % len(mutations)], np.random.default_rng(number)
            what = f"{number}: {name}, {mutate.__name__}"
            broken = mutate(files[name], name.rsplit(".", 1)[1], contents, random)
            path = Path(folder) / name
            path.write_bytes(broken)
            start = time.process_time()  # work, not waiting: a busy machine changes nothing
            try:
                with warnings.catch_warnings(record=True) as heard:
                    warnings.simplefilter("always")
                    image = load_image(path)
                wrong += [
                    f"{what}: {warning.message}" for warning in heard if str(path) not in str(warning.message)
                ]
                outcomes["warning"] += len(heard)
                if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
                    wrong.append(f"{what}: {image.dtype} {list(image.shape)}")
                outcomes["picture"] += 1
                del image
            except ImageLoadError as error:
                if str(path) not in str(error) or error.path != path:
                    wrong.append(f"{what}: {error}")
                outcomes["ImageLoadError"] += 1
            except BaseException as error:  # noqa: BLE001
                wrong.append(f"{what}: {type(error).__name__}: {error}")
            slowest = max(slowest, (time.process_time() - start, what))
            hungriest = max(hungriest, (most_memory(process) - before, what), key=lambda entry: entry[0])
            if path.read_bytes() != broken:
                wrong.append(f"{what}: the file was changed")
    return {"outcomes": dict(outcomes), "wrong": wrong, "slowest": slowest, "hungriest": hungriest}


def most_memory(process: psutil.Process) -> int:
    """The most memory that this process has held so far, in bytes."""
    if sys.platform == "win32":
        return process.memory_info().peak_wset
    if sys.platform == "linux":  # where getrusage would tell the peak of the process that started this one
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(report(int(sys.argv[1]))))
