"""Checkpoint formats: a new one is one file with a `CheckpointFormat` and one line here."""

from plainspoken.coders.formats.format import CheckpointFormat
from plainspoken.coders.formats.own import OWN

FORMATS: dict[str, CheckpointFormat] = {OWN.name: OWN}
