"""Every error that plainspoken raises on purpose: one short tree, each message saying what, where and the mend."""

from __future__ import annotations


class PlainspokenError(Exception):
    """Base of all; `exit_code` is what the command line returns (2: the request was wrong, 1: the work failed)."""

    exit_code = 1


class UsageError(PlainspokenError):
    """What was asked for cannot be done as asked; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value or key that does not fit."""


class SiteError(UsageError):
    """No such module in the model, or one that cannot be a site."""


class ModelError(UsageError):
    """A language model or its tokenizer that cannot be loaded."""


class LlmError(UsageError):
    """A language model service whose answers are not what was asked for, or that cannot do what is needed of it."""


class CorpusError(UsageError):
    """Text that cannot be read, or that does not suffice."""


class RunError(UsageError):
    """A run directory that belongs to another configuration or lacks an earlier stage."""


class LeakError(PlainspokenError):
    """An evaluate document used for anything but evaluation."""


class ActivationError(PlainspokenError):
    """NaN or infinite activations."""


class CoderError(PlainspokenError):
    """A coder checkpoint that is truncated, misshapen, or does not fit its site."""


class StoreError(PlainspokenError):
    """A file that is truncated, altered or cannot be written."""


class ExplanationError(PlainspokenError):
    """An explanations file that does not hold together: a latent missing, double or unknown."""


class LanguageError(PlainspokenError):
    """A sentence that does not parse: `column` (1-based, characters) and what was expected there."""

    def __init__(self, message: str, column: int, expected: str) -> None:
        super().__init__(message)
        self.column = column
        self.expected = expected


class CorpusWarning(UserWarning):
    """Text that was left out of the corpus for a reason, with the count."""


class HubWarning(UserWarning):
    """What the Hugging Face hub's cache on this machine holds may stand for what the hub has now, and why."""
