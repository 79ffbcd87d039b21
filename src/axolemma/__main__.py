"""``python -m axolemma`` is the command line."""

from axolemma.cli import main

main()
