"""`python -m segutils.doctor PATH`: check what a labelling tool has written."""

import argparse
import sys

from segutils.annotations import load_annotations
from segutils.doctor import check_dataset


def main(*words: str) -> int:
    """Do what the command says. Returns the exit status.

    0: no faults; 1: faults, or nothing that can be used; 2: there is nothing to check.
    """
    parser = argparse.ArgumentParser(
        prog="python -m segutils.doctor",
        description="Check annotations and their pictures before a training.",
        epilog="Exit status: 0 without faults, 1 with faults, 2 when there is nothing to check.",
    )
    parser.add_argument(
        "path", metavar="PATH", help="the file of annotations, or the folder with all of them"
    )
    parser.add_argument("--images", help="the folder of the pictures, where it is another one")
    parser.add_argument(
        "--validation", metavar="PATH", help="annotations of pictures that training must not see"
    )
    arguments = parser.parse_args(words)
    try:
        annotations = load_annotations(arguments.path, arguments.images)
        validation = load_annotations(arguments.validation) if arguments.validation else None
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1 if isinstance(error, ValueError) else 2
    report = check_dataset(annotations, validation=validation)
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack the letters of a name
    sys.stderr.reconfigure(errors="backslashreplace")
    sys.exit(main(*sys.argv[1:]))
