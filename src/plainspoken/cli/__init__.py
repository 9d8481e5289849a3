"""The command line: verbs, argument parsing and printing, nothing else."""

import os

# On a busy machine threads that spin while they wait for each other make torch many times slower; on an idle one
# sleeping costs next to nothing. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from plainspoken.cli.app import main

__all__ = ["main"]
