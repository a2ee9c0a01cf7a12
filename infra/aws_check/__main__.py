"""`python -m infra.aws_check`, or `python -m turnout.infra.aws_check` where Turnout is installed."""

from __future__ import annotations

import sys

from .command import main

sys.exit(main(sys.argv[1:]))
