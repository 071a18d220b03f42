"""The order of events, as one line each that several processes append to a file."""

import os
from pathlib import Path


def note(text: str) -> None:
    with Path(os.environ["JOURNAL"]).open("a") as file:
        file.write(text + "\n")
