"""What a stage has asked of a language model, and what that costs at the prices of the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from plainspoken.config import LlmServiceConfig
from plainspoken.llm.spent import Spent


@dataclass(frozen=True)
class Cost:
    """One line of the bill: a stage, the model it asked, and the counts.

    `price_in`, `price_out`: per million tokens, as they are set now; 0 and 0: no price is known.
    """

    stage: str
    model: str
    spent: Spent
    price_in: float = 0.0
    price_out: float = 0.0

    @staticmethod
    def of(stage: str, config: LlmServiceConfig, counts: Mapping[str, Any]) -> "Cost":
        """From what a manifest has of a `Spent`."""
        known = {field.name for field in fields(Spent)}
        spent = Spent(**{name: value for name, value in counts.items() if name in known})
        return Cost(stage, config.model, spent, config.price_in, config.price_out)

    @property
    def computed(self) -> int:
        """Prompt tokens that the model had to read: those sent, less those that its prefix cache had.

        At most, where `spent.cached_untold`: a server that does not tell all that was cached had more of them.
        """
        return self.spent.prompt_tokens - self.spent.cached_tokens

    @property
    def money(self) -> float | None:
        """All prompt tokens, cached or not, and all answer tokens at their price; None where there is none."""
        return self._price(self.spent.prompt_tokens, self.spent.completion_tokens)

    @property
    def earlier_money(self) -> float | None:
        """The same of what was paid earlier: by attempts that were killed, or by other runs."""
        return self._price(self.spent.earlier_prompt_tokens, self.spent.earlier_completion_tokens)

    def _price(self, prompt: int, completion: int) -> float | None:
        if not self.price_in and not self.price_out:
            return None
        return (prompt * self.price_in + completion * self.price_out) / 1e6

    def __add__(self, other: "Cost") -> "Cost":
        """Of the same stage and model."""
        return Cost(self.stage, self.model, self.spent + other.spent, self.price_in, self.price_out)
