"""The files in a folder of checkpoints."""

import math
import pathlib
import re
from collections.abc import Mapping


_NAME = "step_{:010d}.ckpt"
_PATTERN = re.compile(r"step_(\d{10})\.ckpt")


def file_of(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Return the path of the checkpoint of a step."""
    return folder / _NAME.format(step)


def steps_in(folder: pathlib.Path) -> list[int]:
    """Return the steps that have checkpoints, oldest first."""
    matches = (_PATTERN.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match is not None)


def rank(values: Mapping[int, float], mode: str) -> list[int]:
    """Return the steps with finite values, the best one first."""
    usable = [step for step, value in values.items() if math.isfinite(value)]
    return sorted(usable, key=lambda step: values[step], reverse=mode == "max")
