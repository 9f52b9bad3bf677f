"""`python -m brenier`, the command."""

from brenier.cli import main

main()
