"""`python -m plainspoken`: the same as the `plainspoken` command."""

from plainspoken.cli import main

main()
