"""Reads what a Windows DLL exports (the PE format: https://learn.microsoft.com/windows/win32/debug/pe-format)."""

from __future__ import annotations

import struct

EXECUTABLE = 0x20000000  # IMAGE_SCN_MEM_EXECUTE


def exports(image: bytes) -> list[tuple[str, bool]]:
    """Each exported name, and whether it is data: what lies in no executable section."""
    (header,) = struct.unpack_from("<I", image, 0x3C)
    (count,) = struct.unpack_from("<H", image, header + 6)
    (optional,) = struct.unpack_from("<H", image, header + 20)
    (directory,) = struct.unpack_from("<I", image, header + 24 + 112)  # of PE32+
    sections = [struct.unpack_from("<8x4I12xI", image, header + 24 + optional + 40 * at) for at in range(count)]

    def section(address: int) -> tuple[int, ...]:
        return next(one for one in sections if one[1] <= address < one[1] + max(one[0], one[2]))

    def offset(address: int) -> int:
        _, start, _, raw, _ = section(address)
        return raw + address - start

    (number, functions, names, ordinals) = struct.unpack_from("<4I", image, offset(directory) + 24)
    result = []
    for at in range(number):
        (name,) = struct.unpack_from("<I", image, offset(names) + 4 * at)
        (ordinal,) = struct.unpack_from("<H", image, offset(ordinals) + 2 * at)
        (address,) = struct.unpack_from("<I", image, offset(functions) + 4 * ordinal)
        text = image[offset(name) : image.index(b"\0", offset(name))].decode("ascii")
        result.append((text, not section(address)[4] & EXECUTABLE))
    return result
