"""``python -m facellava`` is the command line."""

from facellava.cli import main

main()
