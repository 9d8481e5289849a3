"""The command line: verbs, argument parsing and printing, nothing else."""

from plainspoken.cli.app import main

__all__ = ["main"]
