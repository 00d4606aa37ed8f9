"""`python -m segutils.models fetch coco`: fetch the weights of a model ahead of time, for a workshop or a flight."""

import sys

from segutils.models import MODELS
from segutils.models.downloads import DownloadError, cached_file


def main(*words: str) -> None:
    """Fetch the weights of the models named, and say where they lie."""
    names = words[1:]
    if words[:1] != ("fetch",) or not names or not set(names) <= set(MODELS):
        sys.exit(
            f"usage: python -m segutils.models fetch NAME [NAME ...]\nNAME is one of: {', '.join(MODELS)}"
        )
    for name in names:
        if name == "tabletop":
            print("tabletop: bundled, nothing to fetch")
            continue
        try:
            file = cached_file(MODELS[name][1].url)
        except DownloadError as error:
            sys.exit(str(error))
        print(f"{name}: {file} ({file.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main(*sys.argv[1:])
