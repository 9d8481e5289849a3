"""The verb that tells what the weights alone connect, without a prompt."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import set_cell_size

from plainspoken import pipeline
from plainspoken.cli import options as o
from plainspoken.cli.ending import reporting_errors
from plainspoken.cli.hanging import hanging
from plainspoken.cli.layout import Cell, Row
from plainspoken.cli.show import OUT, UNBOUNDED, progress_on_terminal, show_error, show_rows
from plainspoken.cli.which import run_folder
from plainspoken.language.counted import counted

if TYPE_CHECKING:  # they bring torch
    from plainspoken.circuits.connected import Compared, Connected, Link, MeanLink, OverTexts, TokenScore
    from plainspoken.circuits.connected_file import HeadNorms

_LAYER_WIDE = 6
"""The first column of the table of norms; as many heads abreast as there is room for, the others in tables below."""
_Latent = Annotated[
    str | None,
    typer.Option(
        metavar="LAYER/NUMBER", help="The latent, e.g. 2/143; none: the norms of all heads.", show_default=False
    ),
]
_Through = Annotated[
    str | None,
    typer.Option(metavar="LAYER/HEAD", help="Tell latents through this head alone; default: any.", show_default=False),
]
_Texts = Annotated[
    int,
    typer.Option(
        min=0,
        help="Rows of explain documents to take means over: what earlier latents do contribute where it fires, and "
        "how well the weights foretell which.",
    ),
]
_Top = Annotated[int, typer.Option(min=1, help="Tokens and latents of each kind.")]
_Out = Annotated[
    Path | None, typer.Option(help="Folder for what is written; default: in RUN/connections/.", show_default=False)
]


def connections(
    run: o.OldRun = None,
    latent: _Latent = None,
    through: _Through = None,
    texts: _Texts = 0,
    top: _Top = 10,
    out: _Out = None,
    device: o.Device = None,
    quiet: o.Quiet = False,
) -> None:
    """Tell what the weights alone connect, without a prompt: tokens and latents of one latent, or the size of heads.

    Of a latent: the tokens that excite it and those that it promotes, the earlier latents that it reads from and the
    later ones that it writes to, directly and through a head; signed, at activation 1 with every norm's factor at 1.
    What excites it or holds it down is its pre-activation, less its bias, where the stream holds that token's embedding
    alone, through the whole norm before the FFN.

    [bold]--texts[/] holds the weights against means over documents: the overlap of the largest by either, with its 95 %
    by document, beside the overlap with other latents' weights (control).

    Without --latent: ‖W_V W_O‖ of every head, as a table and a heat map. All of it is written to RUN/connections/.

    plainspoken connections runs/all --latent 2/143

    plainspoken connections runs/all --latent 2/143 --through 1/3 --texts 100

    plainspoken connections runs/all
    """
    folder = run_folder(run, "connections {} --latent 0/0")
    if latent is None and (through is not None or texts):
        show_error("--through and --texts are of a latent: name it with --latent LAYER/NUMBER, e.g. --latent 2/143")
        raise typer.Exit(2)
    with reporting_errors(folder, "connections"), progress_on_terminal(quiet) as progress:
        if latent is None:
            norms = pipeline.head_norms(folder, out=out, device=device, progress=progress)
            files, show = norms.files, lambda: _show_norms(norms.found)
        else:
            made = pipeline.connections(
                folder, latent, through=through, texts=texts, top=top, out=out, device=device, progress=progress
            )
            files, show = made.files, lambda: _show_latent(made.found)
    if quiet:
        return
    show()
    for name, path in files.items():
        _line(f"{name}: {path}")


def _show_norms(found: "HeadNorms") -> None:
    OUT.print(
        "[bold]OV norms[/] (Frobenius, the norm's weight folded in): how much each head moves",
        highlight=False,
    )
    decimals = _decimals(max(max(row) for row in found.norms))
    told = [[f"{norm:.{decimals}f}" for norm in row] for row in found.norms]
    heads, wide = max(map(len, told)), 1 + max(len(each) for row in told for each in row)
    abreast = max(1, (OUT.width - _LAYER_WIDE) // wide)
    for first in range(0, heads, abreast):
        some = range(first, min(first + abreast, heads))
        rows = [Row.of(str(layer), [row[i] if i < len(row) else "" for i in some]) for layer, row in enumerate(told)]
        show_rows(Row.of("layer", [f"h{i}" for i in some]), rows)


def _decimals(largest: float) -> int:
    """Two for every norm of a table; more where all are so small that two would show nothing of them."""
    return 2 if largest >= 1 or largest <= 0 else 2 + math.ceil(-math.log10(largest))


def _show_latent(found: "Connected") -> None:
    from plainspoken.circuits.lines import quoted

    said = "not explained" if found.text is None else quoted(found.text, len(found.text))
    fidelity = "" if found.fidelity is None else f" (foretells it with correlation {found.fidelity:.2f})"
    OUT.print(f"latent {found.layer}/{found.latent}: {said}{fidelity}", markup=False, highlight=False, style="bold")
    for names, ends in (
        (("excited by (pre-activation)", "held down by (pre-activation)"), (found.excited, found.held)),
        (("promotes (logit, factor at 1)", "suppresses (logit, factor at 1)"), (found.promoted, found.suppressed)),
    ):
        for line in _abreast(names, ends, OUT.width):
            _line(line)
    by = "any head" if found.through is None else "head {}/{}".format(*found.through)
    lies = "no head lies" if found.through is None else f"{by} does not lie"
    for title, links, none in (
        ("reads from earlier latents", found.sources, "no earlier layer has a coder"),
        ("writes to later latents", found.targets, "no later layer has a coder"),
        (
            f"reads from earlier latents through {by}",
            found.from_heads,
            f"{lies} between an earlier layer with a coder and layer {found.layer}",
        ),
        (
            f"writes to later latents through {by}",
            found.to_heads,
            f"{lies} between layer {found.layer} and a later layer with a coder",
        ),
    ):
        told = f"{title}:" if links else f"{title}: none, as {none}"
        OUT.print(told, markup=False, highlight=False, emoji=False)
        for link in links:
            _link_line(link)
    if found.texts is not None:
        _show_texts(found.texts)
    _show_brackets(found)


def _show_brackets(found: "Connected") -> None:
    """What the numbers behind the other latents are."""
    from plainspoken.circuits.beside import Said, brackets_told

    links = [*found.sources, *found.targets, *found.from_heads, *found.to_heads]
    links += [each for layer in (found.texts.layers if found.texts else ()) for each in layer.strongest]
    if told := brackets_told((Said(each.text, each.fidelity) for each in links), found.about):
        for line in hanging(told, OUT.width, 0):
            OUT.print(line, markup=False, highlight=False, soft_wrap=True, emoji=False, style="dim")


def _abreast(names: tuple[str, str], ends: "Sequence[Sequence[TokenScore]]", width: int) -> Iterator[str]:
    """Two lists of tokens side by side, each cut to half the width."""
    from plainspoken.circuits.lines import signed
    from plainspoken.report.tokens import visible

    half = width // 2
    columns = [
        [f"{name}:", *(f'  {signed(each.score):>8}  "{visible(each.spelled.encode())}"' for each in some)]
        for name, some in zip(names, ends, strict=True)
    ]
    for left, right in zip(*columns, strict=True):
        yield f"{set_cell_size(left, half - 1)} {set_cell_size(right, half)}".rstrip()


def _link_line(link: "Link") -> None:
    from plainspoken.circuits.lines import signed

    through = "" if link.head is None else f"head {link.head[0]}/{link.head[1]}  "
    _with_sentence(f"  {signed(link.weight):>8}  {through}{link.layer}/{link.latent}", link)


def _show_texts(texts: "OverTexts") -> None:
    from plainspoken.circuits.lines import signed

    OUT.print(
        f"over {counted(texts.rows, 'row')} of the {texts.part} part ({counted(texts.documents, 'document')}, "
        f"{counted(texts.tokens, 'token')}): fires at {counted(texts.firings, 'token')} of "
        f"{counted(texts.firing_documents, 'document')}",
        highlight=False,
    )
    for source in texts.layers:
        _line(f"mean contributions of layer {source.layer} there (weight):")
        for link in source.strongest:
            weight = f"({signed(link.weight)})"
            _with_sentence(f"  {signed(link.mean):>8} {weight:>10}  {link.layer}/{link.latent}", link)
    _show_overlaps(texts)


def _show_overlaps(texts: "OverTexts") -> None:
    from plainspoken.circuits.overlaps import FEWEST, NOISE

    tops = sorted({each.top for source in texts.layers for each in source.overlaps})
    if not tops:
        _line("overlap with the weights' largest: not told, as too few earlier latents contribute")
        return
    others = f"{counted(len(texts.controls), 'other latent')} that fire too" if texts.controls else "no other fires"
    OUT.print(f"overlap of the largest by mean and by weight, 95 % by document; control: {others}", highlight=False)
    rows = list[Row]()
    for source in texts.layers:
        by_top = {each.top: each for each in source.overlaps}
        rows.append(Row((f"layer {source.layer}", ""), [_share(by_top, top, control=False) for top in tops]))
        rows.append(Row(("  control", ""), [_share(by_top, top, control=True) for top in tops]))
    show_rows(Row(("", ""), [(f"top {top}", "") for top in tops]), rows)
    if texts.firing_documents < FEWEST:
        few = counted(texts.firing_documents, "document")
        _line(f"no intervals: it fires in {few} of the {FEWEST} they need (more with --texts)")
    else:
        _line(NOISE)


def _share(by_top: "Mapping[int, Compared]", top: int, *, control: bool) -> Cell:
    each = by_top.get(top)
    value = None if each is None else each.control if control else each.share
    if each is None or value is None:
        return UNBOUNDED, ""
    low, high = (each.control_low, each.control_high) if control else (each.low, each.high)
    return f"{value:.0%}", UNBOUNDED if low is None or high is None else f"[{100 * low:.0f}, {100 * high:.0f}]"


def _with_sentence(start: str, link: "Link | MeanLink") -> None:
    """A line no longer than the terminal is wide: the sentence is cut."""
    from plainspoken.circuits.beside import Said
    from plainspoken.circuits.lines import quoted

    start += Said(link.text, link.fidelity).brackets
    room = OUT.width - len(start) - 4
    _line(start if link.text is None or room < 8 else f"{start}  {quoted(link.text, room)}")


def _line(text: str) -> None:
    OUT.print(text, markup=False, highlight=False, soft_wrap=True, emoji=False)
