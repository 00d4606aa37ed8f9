"""Small colour profiles (ICC, version 2), written byte by byte, and what their colours are in sRGB."""

import struct

import numpy as np

ADOBE_GAMMA = 563 / 256
# The red, green and blue of a profile as XYZ under D50, the white of all profiles.
ADOBE = np.array([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]])
SRGB = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])


def adobe_rgb() -> bytes:
    """A profile with the primaries and the gamma of Adobe RGB (1998)."""
    return _profile(b"RGB ", b"XYZ ", _primaries(ADOBE) | _curves(b"rgb", _curve([round(ADOBE_GAMMA * 256)])))


def srgb() -> bytes:
    """sRGB with a table of 1024 values for its curve, as cameras write it."""
    table = [round(65535 * value) for value in srgb_to_light(np.linspace(0, 1, 1024))]
    return _profile(b"RGB ", b"XYZ ", _primaries(SRGB) | _curves(b"rgb", _curve(table)))


def grey(gamma: float) -> bytes:
    return _profile(
        b"GRAY", b"XYZ ", {b"wtpt": _xyz(0.9642, 1, 0.8249)} | _curves(b"k", _curve([round(gamma * 256)]))
    )


def cmyk(cyan: int) -> bytes:
    """Inks of a strange printer: cyan prints a grey of lightness `cyan` (0 to 100), the others print black."""
    lightness = [100 if inks == 0 else cyan if inks == 8 else 0 for inks in range(16)]  # inks: CMYK as bits
    colors = bytes(byte for value in lightness for byte in (round(value * 2.55), 128, 128))
    matrix = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    straight = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * straight + colors + 3 * straight
    return _profile(b"CMYK", b"Lab ", {b"wtpt": _xyz(0.9642, 1, 0.8249), b"A2B0": table}, b"prtr")


def adobe_to_srgb(values: np.ndarray) -> np.ndarray:
    """What Adobe RGB values (uint8 [..., 3]) are in sRGB, by the formulas of the two standards; beyond sRGB cut off."""
    light = (values / 255) ** ADOBE_GAMMA @ ADOBE @ np.linalg.inv(SRGB)
    return np.rint(255 * light_to_srgb(light.clip(0, 1))).astype(np.uint8)


def light_to_srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb_to_light(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _profile(colors: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)} | tags
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = bytearray(128)
    struct.pack_into(
        ">I4sI4s4s4s", header, 0, 128 + len(table) + len(data), b"test", 0x02100000, kind, colors, connection
    )
    header[36:40] = b"acsp"
    struct.pack_into(">3i", header, 68, *(round(65536 * value) for value in (0.9642, 1, 0.8249)))  # D50
    return bytes(header) + table + data


def _primaries(xyz: np.ndarray) -> dict[bytes, bytes]:
    return {b"wtpt": _xyz(0.9642, 1, 0.8249)} | {
        name: _xyz(*row) for name, row in zip((b"rXYZ", b"gXYZ", b"bXYZ"), xyz)
    }


def _curves(channels: bytes, curve: bytes) -> dict[bytes, bytes]:
    return {bytes([channel]) + b"TRC": curve for channel in channels}


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def _curve(values: list[int]) -> bytes:
    """A table, or a gamma: a single number, 256 for 1.0."""
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)
