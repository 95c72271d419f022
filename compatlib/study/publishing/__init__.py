"""Rows → verdicts → pages → HTML → archive. A command of this package begins in the environment of pages."""

import sys

if sys.argv[:1] == ["-m"]:  # Python is looking for the module of `python -m`, whose parent this may be
    from compatlib.study.publishing import environment

    environment.enter()
