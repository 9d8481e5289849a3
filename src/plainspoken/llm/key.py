"""The key of a service: out of the environment, sent to the server, and shown nowhere else."""

import json
import os
import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from plainspoken.config import LlmServiceConfig
from plainspoken.errors import ConfigError

_SECRET = 8
"""Characters from which on a key is taken for a secret in replies: local servers are given keys such as `none`."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_BEGUN_AS_KEYS = re.compile(r"sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}|(?:gsk_|hf_|xai-)[A-Za-z0-9]{16,}")
"""How the keys of many services begin."""
_BETWEEN_PARTS = re.compile(r"[^A-Za-z0-9_-]+")
_ONE_WORD = re.compile(r"(?=.*[a-z])(?=.*\d)[A-Za-z0-9]{24,}")
"""One long word of letters and digits, which no variable is called, and many a key is."""


@dataclass(frozen=True)
class Key:
    """The key, which the representation leaves out, and `variable`, the environment variable that it came from."""

    variable: str
    value: str = field(repr=False)

    @classmethod
    def of(cls, variable: str) -> "Key":
        """The key in this variable; "": no key. Raises ConfigError for one that is not set or cannot be sent."""
        value = os.environ.get(variable, "").strip() if variable else ""
        if variable and not value:
            _require_name(variable)
            raise ConfigError(
                f"the environment variable {variable}, named as key_variable, is not set: "
                "export it, or leave key_variable empty"
            )
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"what stands in {variable} is no key: it has characters that no header can carry")
        return cls(variable, value)

    def hide(self, text: str) -> str:
        """The text with the variable's name for the key: servers quote what they were sent, escaped or not."""
        for written in self._written():
            text = text.replace(written, f"[{self.variable}]")
        return text

    def shown_in(self, text: str) -> bool:
        """Whether the text quotes the key, a secret one."""
        return len(self.value) >= _SECRET and any(written in text for written in self._written())

    def _written(self) -> tuple[str, ...]:
        """The key as it stands in plain text, in JSON (two ways) and in an address, each once."""
        if not self.value:
            return ()
        escaped = json.dumps(self.value)[1:-1]
        return tuple(dict.fromkeys((self.value, escaped, escaped.replace("/", "\\/"), quote(self.value, safe=""))))


def refuse_secrets(config: LlmServiceConfig, section: str) -> None:
    """ConfigError, which does not show it, for a key or password in a setting: settings are kept, and printed.

    Found are the key that `key_variable` names, any part of a setting that begins and goes on as the keys of many
    services do, and whatever an address should not have (user, password, query).
    """
    key = Key("", "")
    if config.key_variable:
        _require_name(config.key_variable, section)
        key = Key(config.key_variable, os.environ.get(config.key_variable, "").strip())
    refuse_in_address(config.base_url)
    for name in ("model", "base_url", "tokenizer", "cache"):
        value = getattr(config, name) or ""
        if key.shown_in(value) or any(map(_BEGUN_AS_KEYS.match, _BETWEEN_PARTS.split(value))):
            raise ConfigError(
                f"{section}.{name} holds a key, and settings are kept and shown: take it out, and name the environment "
                "variable that has it as key_variable"
            )


def refuse_in_address(base_url: str) -> None:
    """ConfigError, which does not show it, for a user, a password or anything behind a ? or # in an address."""
    try:
        parts = urlsplit(base_url)
    except ValueError as error:  # an IPv6 address that does not end, say
        raise ConfigError("base_url is no address; write it as http://127.0.0.1:8000/v1") from error
    if parts.username or parts.password:
        raise ConfigError("base_url holds a user or a password: leave it out and name key_variable instead")
    if parts.query or parts.fragment:  # it would stand in settings and manifests, and some put a key there
        raise ConfigError("base_url goes on behind a ? or #: leave that out; a key is named by key_variable")


def _require_name(variable: str, section: str = "") -> None:
    """ConfigError for what is no variable's name: the key itself, perhaps, so that it is not shown."""
    like_a_key = _BEGUN_AS_KEYS.match(variable) or _ONE_WORD.fullmatch(variable)
    if not _NAME.fullmatch(variable) or (like_a_key and variable not in os.environ):
        raise ConfigError(
            f"{section + '.' if section else ''}key_variable is no name of an environment variable; it looks as if the "
            "key itself stood there: put that into a variable, and name the variable"
        )
