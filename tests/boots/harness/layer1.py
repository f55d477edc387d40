# SPDX-License-Identifier: Apache-2.0
"""Layer 1: one of the test programs that need neither root nor a machine.

    layer1.py lib|it|corpus [FILTER...]

Rust's own summary is the result.
"""

from __future__ import annotations

import os
import sys

import builds


def main() -> int:
    """Becomes the test program, where cargo would run it."""
    name, *filters = sys.argv[1:]
    program = builds.built()[name]
    os.chdir(builds.PROJECT)
    os.execv(program, [str(program), *filters])


if __name__ == "__main__":
    sys.exit(main())
