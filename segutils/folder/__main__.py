"""`python -m segutils.folder PHOTOS OUT`: run a model on every picture in a folder."""

import argparse
import sys
import traceback

from segutils.folder import segment_folder
from segutils.folder.engines import ENGINES


def main(*words: str) -> int:
    """Do what the command says. Returns the exit status.

    0: all pictures are done; 1: done, but some pictures failed; 2: not done; 130: stopped by Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="python -m segutils.folder",
        description="Run a model on all pictures of a folder, sub-folders too. Stopped, it goes on when started again.",
        epilog="Exit status: 0 when all is done, 1 when some pictures failed, 2 when the run could not be finished.",
    )
    parser.add_argument("photos", metavar="PHOTOS", help="the folder with the pictures")
    parser.add_argument("out", metavar="OUT", help="the folder for the results: settings.json and JSON lines")
    parser.add_argument(
        "--model", help="tabletop, coco, coco_v2, or the path of your own (default: tabletop)"
    )
    parser.add_argument("--score-threshold", type=float, default=0.5, help="0 to 1 (default: 0.5)")
    parser.add_argument("--engine", choices=list(ENGINES), default="local", help="(default: local)")
    parser.add_argument("--workers", type=int, help="default: one a core, or one a GPU where there is one")
    parser.add_argument("--tile", type=int, help="cut large pictures into squares of so many pixels a side")
    arguments = vars(parser.parse_args(words))
    try:
        done = segment_folder(arguments.pop("photos"), arguments.pop("out"), **arguments)
    except KeyboardInterrupt:
        print("\nStopped. What is finished stays; the same command goes on from there.", file=sys.stderr)
        return 130
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except Exception:
        # A bug, say, or Ray did not start. Python itself would end with 1, which says that some pictures failed.
        traceback.print_exc()
        return 2
    before = done.pictures - done.new
    noun = "picture" if done.pictures == 1 else "pictures"
    print(f"{done.pictures} {noun}: {done.new} done now, {before} before; {done.failed} failed")
    for path, error in done.errors.items():
        print(f"  {path!r}: {error}")  # as Python writes it, since a name can hold anything
    if done.failed > len(done.errors):
        print(f"  and {done.failed - len(done.errors)} more")
    return 1 if done.failed else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack the letters of a name
    sys.stderr.reconfigure(errors="backslashreplace")
    sys.exit(main(*sys.argv[1:]))
