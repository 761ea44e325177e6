"""``python -m shared.program FILE…``: check program files; 0 if all are right, else 1."""

from __future__ import annotations

import sys

from shared.program import ProgramError, load


def main(files: list[str]) -> int:
    """Check each file and say what it is or what is wrong with it."""
    if not files or any(file.startswith("-") for file in files):
        sys.stderr.write("usage: python -m shared.program FILE…\n")
        return 2
    failed = False
    for file in files:
        try:
            program = load(file)
        except ProgramError as error:
            sys.stderr.write(f"{error}\n")
            failed = True
        else:
            sys.stdout.write(f"{file}: ok, version {program.version}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
