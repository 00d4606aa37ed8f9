"""Files from strangers: read whole, but not without limit."""

import json
import os
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_BYTES = 2_000_000_000
"""The largest file of annotations that is opened: four times that of COCO's training set."""


def read_bytes(path: Path) -> bytes:
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise ValueError(f"'{path}' is too large for a file of annotations ({size / 1e9:.1f} GB). Split it.")
    return path.read_bytes()


def read_text(path: Path) -> str:
    """Raises `ValueError` when it is no text."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not text in UTF-8: {error}. Save it again as UTF-8.") from error


def read_json(path: Path) -> Any:
    """Raises `ValueError` when it is no JSON."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, RecursionError):
            error = "it is nested too deep"
        raise ValueError(f"'{path}' is not a JSON file that can be read: {str(error).rstrip('.')}.") from None


def read_xml(path: Path) -> Element:
    """Raises `ValueError` when it is no XML, or defines entities: a few lines of these can fill the memory."""

    def refuse(*_: Any) -> None:
        raise ValueError(
            "it has a DOCTYPE, which no labelling tool writes; delete that part if you trust the file"
        )

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    data = read_bytes(path)
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ValueError(f"'{path}' is not an XML file that can be read: {error}.") from error
    return builder.close()
