"""Pin a behaviour's values after its number was raised: `make pin NAME=bct`."""

import sys

from tests.study.lab.pinned import evaluation, trainables, training  # noqa: F401 (they register computations)
from tests.study.lab.pinned.values import pin

if __name__ == "__main__":
    try:
        print(pin(sys.argv[1]))
    except ValueError as error:
        sys.exit(str(error))
