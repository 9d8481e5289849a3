"""A verb's help with the formats of the registry in it: they bring torch, which no other help should wait for."""

from typing import Any

from plainspoken.cli.help_lines import LaidOutCommand

PLACE = "FORMATS"


class FormatsCommand(LaidOutCommand):
    """A command in whose help `FORMATS` stands for a list of the checkpoint formats."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, with the list put in its place."""
        from plainspoken.coders import FORMATS

        width = max(map(len, FORMATS)) + 2
        lines = (f"{f.name:{width}}{'read, written' if f.save else 'read':15}{f.what}" for f in FORMATS.values())
        self.help = (self.help or "").replace(PLACE, "\n".join(lines))
        super().format_help(ctx, formatter)
