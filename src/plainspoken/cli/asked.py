"""What the terminal shows of language models: what was asked, what was not answered, what would be asked."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from plainspoken.cli.layout import Row
from plainspoken.cli.show import OUT, show_rows
from plainspoken.language.counted import agreeing, counted
from plainspoken.llm.cost import Cost
from plainspoken.llm.spent import Spent
from plainspoken.pipeline import FailureCount
from plainspoken.pipeline.asked import ASKING

if TYPE_CHECKING:
    from plainspoken.pipeline.dry import DryRun
    from plainspoken.pipeline.dry_estimate import Figure
else:  # they bring torch
    DryRun = Figure = Any


def show_costs(costs: Sequence[Cost]) -> None:
    """One row a stage and model: requests, tokens, seconds and cost as the servers counted them."""
    if not costs:
        return
    OUT.print("\n[bold]asked of language models[/], as they counted it", highlight=False)
    rows = []
    for cost in costs:
        spent = cost.spent
        least, most = "≥" if spent.untold else "", "≤" if spent.cached_untold and not spent.untold else ""
        figures = (
            amount(spent.requests),
            amount(spent.from_cache),
            least + amount(spent.prompt_tokens),
            most + amount(cost.computed),
            least + amount(spent.completion_tokens),
            f"{spent.seconds:,.1f}",
            money(cost.money),
        )
        rows.append(Row.of(cost.stage, figures))
    titles = ("requests", "from cache", "prompt", "computed", "answers", "seconds", "cost")
    show_rows(Row.of("stage", titles), rows)
    for model, rows in groupby(sorted(costs, key=lambda cost: cost.model), key=lambda cost: cost.model):
        OUT.print(f"{', '.join(row.stage for row in rows)}: {escape(model)}", highlight=False, soft_wrap=True)
    for cost in costs:
        if cost.spent.earlier_requests:
            OUT.print(f"paid earlier ({cost.stage}): {_earlier(cost)}", highlight=False, soft_wrap=True)
    for cost in costs:
        for note in _untold(cost.spent):
            OUT.print(f"[yellow]not told[/] ({cost.stage}): {note}", highlight=False, soft_wrap=True)
    for cost in costs:
        if cost.spent.faults:
            told = ", ".join(f"{kind} {count:,}" for kind, count in cost.spent.faults.items())
            OUT.print(f"[yellow]not answered[/] ({cost.stage}): {told}", highlight=False)


def _earlier(cost: Cost) -> str:
    """What attempts before this one had paid."""
    spent, price = cost.spent, "" if cost.earlier_money is None else f", cost {money(cost.earlier_money)}"
    tokens = f"{amount(spent.earlier_prompt_tokens)} prompt and {amount(spent.earlier_completion_tokens)} answer tokens"
    requests = f"{amount(spent.earlier_requests)} {agreeing(spent.earlier_requests, 'request')}"
    return f"{requests}, {tokens}, {spent.earlier_seconds:,.1f} s{price}"


def _untold(spent: Spent) -> Iterator[str]:
    """What the servers did not say of their own counts."""
    if spent.untold:
        yield f"the tokens of {counted(spent.untold, 'answer')}; sums of tokens and the cost are lower bounds"
    if spent.cached_untold:
        answers = counted(spent.cached_untold, "answer")
        yield f"all that was cached of {answers}; computed is an upper bound of the tokens told"


def show_stand_in() -> None:
    """What must be known before any figure of a run whose sentences are the bundled model's, or read by it."""
    OUT.print(
        "\n[bold red]a trial of the pipeline[/]: the bundled model stands in for a language model that can explain and "
        "simulate; no figure below says anything about explanations",
        highlight=False,
    )


def show_failures(failures: Sequence[FailureCount]) -> None:
    """Latents without an explanation or without some answers, by stage and kind; nothing where there are none."""
    for (stage, site), rows in groupby(failures, key=lambda failure: (failure.stage, failure.site)):
        told = ", ".join(f"{row.kind} {row.latents:,}" for row in rows)
        OUT.print(f"latents that {stage} failed on, {site}: {told}", markup=False, highlight=False, soft_wrap=True)


def show_dry_run(dry: DryRun, prompts: bool) -> None:
    """What would be asked, a row a stage and model; its notes; and with `prompts` one prompt of each."""
    if dry.estimates:
        OUT.print("\n[bold]dry run[/]: nothing was sent to a language model; it would be asked", highlight=False)
        rows = []
        for one in dry.estimates:
            figures = map(_estimated, (one.requests, one.prompt_tokens, one.computed, one.answers))
            cost = "–" if one.money is None else f"{one.money.value:,.2f}{_give_or_take(one.money)}"
            rows.append(Row.of(one.stage, (*figures, cost)))
        show_rows(Row.of("stage", ("requests", "prompt", "computed", "answers", "cost")), rows)
        for one in dry.estimates:
            OUT.print(f"{one.stage}: {one.model}", markup=False, highlight=False, soft_wrap=True)
        priced = [one.money.value for one in dry.estimates if one.money is not None]
        if len(priced) > 1:
            OUT.print(f"cost of all: {sum(priced):,.2f}", highlight=False)
    for note in dry.notes:
        OUT.print(f"· {note}", markup=False, highlight=False, soft_wrap=True)
    shown = sorted((*dry.estimates, *dry.done), key=lambda one: ASKING.index(one.stage))
    for one in shown if prompts else ():
        if one.prompt:
            OUT.print(f"\n[bold]one prompt of {one.stage}[/], to {escape(one.model)}:", highlight=False)
            OUT.print(one.prompt, markup=False, highlight=False, soft_wrap=True, emoji=False)


def _estimated(figure: Figure) -> str:
    return amount(figure.value) + _give_or_take(figure)


def _give_or_take(figure: Figure) -> str:
    """The standard error in percent; nothing where there is none."""
    if not figure.error or not figure.value:
        return ""
    share = 100 * figure.error / figure.value
    return " ±<1%" if share < 1 else f" ±{share:.0f}%"


def amount(count: float) -> str:
    """A count in three figures: 812, 45.1 k, 3.28 M."""
    for size, scale, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if count >= size:
            scaled = count / scale
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {unit}"
    return f"{count:,.0f}"


def money(value: float | None) -> str:
    """A cost with two decimals; a dash where no price is set."""
    return "–" if value is None else f"{value:,.2f}"
