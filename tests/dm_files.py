"""Write DM3 and DM4 files, by the published layout of the format.

A tree is a list of (name, value): a list is a branch, and a leaf one of the functions below.
"""

import struct

import numpy as np

#: Codes of numbers in tags, by numpy's types.
CODES = {
    "int16": 2, "int32": 3, "uint16": 4, "uint32": 5, "float32": 6, "float64": 7, "bool": 8,
    "int8": 9, "uint8": 10, "int64": 11, "uint64": 12,
}  # fmt: skip

#: Codes of pixels.
PIXELS = {
    "int16": 1, "float32": 2, "complex64": 3, "uint8": 6, "int32": 7, "int8": 9, "uint16": 10,
    "uint32": 11, "float64": 12, "complex128": 13, "bool": 14,
}  # fmt: skip


def number(value, dtype="uint32"):
    return lambda order: (
        [CODES[dtype]],
        np.array(value, np.dtype(dtype).newbyteorder(order)).tobytes(),
    )


def text(letters):
    return lambda order: (
        [20, CODES["uint16"], len(letters)],
        letters.encode("utf-16-le" if order == "<" else "utf-16-be"),
    )


def array(values):
    if values.dtype.kind == "c":
        part = CODES["float32" if values.dtype.itemsize == 8 else "float64"]
        parts = [20, 15, 0, 2, 0, part, 0, part, values.size]
    else:
        parts = [20, CODES[values.dtype.name], values.size]
    return lambda order: (parts, values.astype(values.dtype.newbyteorder(order)).tobytes())


def rectangle(*values):
    """A struct of four whole numbers, as windows have them."""
    return lambda order: (
        [15, 0, len(values)] + [0, CODES["int32"]] * len(values),
        struct.pack(f"{order}{len(values)}i", *values),
    )


def image(voxels, *, scales=(), units=(), code=None):
    """Return the tags of one image, ZYX or YX, with the calibration of X, Y, Z."""
    calibrated = [
        ("", [
            ("Origin", number(0, "float32")),
            ("Scale", number(scale, "float32")),
            ("Units", text(unit)),
        ])
        for scale, unit in zip(scales, units, strict=True)
    ]  # fmt: skip
    return [
        ("ImageData", [
            ("Calibrations", [
                ("Brightness", [("Scale", number(1, "float32")), ("Units", text("e-"))]),
                ("Dimension", calibrated),
                ("DisplayCalibratedUnits", number(1, "bool")),
            ]),
            ("Data", array(voxels)),
            ("DataType", number(PIXELS[voxels.dtype.name] if code is None else code)),
            ("Dimensions", [("", number(side)) for side in voxels.shape[::-1]]),
            ("PixelDepth", number(voxels.itemsize)),
        ]),
        ("ImageTags", [("Microscope Info", [("Voltage", number(2e5, "float64"))])]),
        ("Name", text("section")),
    ]  # fmt: skip


def thumbnail(side=8):
    """An image in colour, four bytes a pixel, as DigitalMicrograph puts before others."""
    return image(np.full((side, side), 0x00C0C0C0, np.int32), code=23)


def save(path, *images, version=4, order="<", root=None):
    """Write the images to a file; `root` instead of them gives all tags."""
    tree = root or [
        ("ApplicationBounds", rectangle(0, 0, 1000, 1600)),
        ("HasWindowPosition", number(1, "bool")),
        ("ImageList", [("", one) for one in images]),
        ("InImageMode", number(1, "bool")),
    ]
    body = _branch(tree, version, order)
    head = struct.pack(">IQI" if version == 4 else ">III", version, len(body), order == "<")
    path.write_bytes(head + body + bytes(8))
    return path


def _branch(tags, version, order):
    named = bool(tags and tags[0][0])  # a list has no names
    count = struct.pack(">BBQ" if version == 4 else ">BBI", named, 0, len(tags))
    return count + b"".join(_tag(name, value, version, order) for name, value in tags)


def _tag(name, value, version, order):
    if isinstance(value, list):
        kind, body = 20, _branch(value, version, order)
    else:
        parts, data = value(order)
        letter = "Q" if version == 4 else "I"
        kind = 21
        body = b"%%%%" + struct.pack(f">{1 + len(parts)}{letter}", len(parts), *parts) + data
    length = struct.pack(">Q", len(body)) if version == 4 else b""
    label = name.encode("latin-1")
    return struct.pack(">BH", kind, len(label)) + label + length + body
