"""The report in one sentence, with the numbers, their intervals and what they do not show."""

from dataclasses import dataclass

from plainspoken.language.counted import agreeing, counted
from plainspoken.report import numbers
from plainspoken.report.data import Measured, ReportData, SiteReport
from plainspoken.report.select import subject, whole

# Above this a test shows nothing.
LEVEL = 0.05
# From fewer documents a bootstrap draws much the same again and again: its intervals come out too narrow.
FEW_DOCUMENTS = 10


@dataclass(frozen=True)
class Headline:
    """`before` stands before `told`, for nobody may overlook it; `notes`: what a reader must know beside, in order."""

    before: tuple[str, ...]
    told: str
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What leads the page."""
        return " ".join((*self.before, self.told))


def headline(data: ReportData) -> Headline:
    """One sentence on the joint rewrite, or on the single site. A claim is made only where the interval allows it.

    Before it stands what nobody may overlook: that a stand-in spoke, that few latents have a sentence, that answers
    lack. After a stand-in, and where too many answers lack, it tells figures and claims nothing.
    """
    site = subject(data)
    rewritten, shuffled = whole(site, "rewritten"), whole(site, "shuffled")
    if rewritten is None:
        return Headline((), f"{_name(data, site)[0]}: nothing was rewritten in this run.", ())
    claims = rewritten.withheld is None and not _stands_in(data)
    told = _claim(data, site, rewritten, shuffled) if claims else _figures(data, site, rewritten, shuffled)
    notes = (*_made_by(data), *(_cautions(rewritten, shuffled) if claims else ()))
    return Headline(_before(data, site, rewritten), f"{told}.", (*notes, *_losses(data, site, rewritten, claims)))


def _before(data: ReportData, site: SiteReport, rewritten: Measured) -> tuple[str, ...]:
    """Sentences that stand before everything else."""
    found: list[str] = []
    if _stands_in(data):
        found.append(
            "A trial of the pipeline, not of explanations: a small in-process model stands in for one that can explain "
            "and simulate, and no figure here says anything about explanations."
        )
    if not site.mostly_explained:
        found.append(_few(site))
    if rewritten.withheld is not None:
        found.append(f"Incomplete, verdict {rewritten.withheld}.")
    elif not rewritten.complete:
        found.append(f"Incomplete: {'; '.join(_lacking(rewritten))}.")
    return tuple(found)


def _lacking(row: Measured) -> list[str]:
    """What got no answer, of what is rewritten and of what calibrates."""
    found = []
    if row.coverage is not None and row.coverage < 1:
        lacking = numbers.at_least_shown(1 - row.coverage)
        found.append(f"{lacking} of what the simulator was asked got no answer and stands at 0")
    if row.calibrated is not None and row.calibrated < 1:
        lacking = numbers.at_least_shown(1 - row.calibrated)
        found.append(f"{lacking} of what it was asked to calibrate by got no answer and taught nothing")
    return found


def _few(site: SiteReport) -> str:
    explained, latents = numbers.count(site.explained), counted(site.latents, "latent")
    have = agreeing(site.explained, "has", "have")
    share = numbers.percent(site.explained / site.latents, 1)
    if site.firings and site.firings_explained is not None:
        share += f", with {numbers.percent(site.firings_explained / site.firings, 1)} of the firings"
    if site.not_chosen:
        tried = site.latents - site.not_chosen
        were = agreeing(tried, "was", "were")
        told = f"A sample: {numbers.count(tried)} of {latents} {were} tried, and {explained} ({share})"
    else:
        told = f"Only {explained} of {latents} ({share})"
    return f"{told} {have} a sentence; the others are put at 0."


def _stands_in(data: ReportData) -> bool:
    return data.speakers is not None and data.speakers.stand_in


def _claim(data: ReportData, site: SiteReport, rewritten: Measured, shuffled: Measured | None) -> str:
    told = f"Rewritten in plain English ({_extent(site, rewritten)}), {_verdict(data, site, rewritten)}"
    if shuffled is None or shuffled.recovered is None:
        return told
    control = f"with the explanations shuffled, {numbers.percent_interval(shuffled.recovered)}"
    if shuffled.withheld is not None:
        shares = [share for share in (shuffled.coverage, shuffled.calibrated) if share is not None]
        lacking = numbers.at_least_shown(1 - min(shares, default=0.0))
        return f"{told}; {control}, which is no comparison: {lacking} of the control’s pairs got no answer"
    if rewritten.recovered is not None and rewritten.recovered.sign == 1 and _as_well(rewritten, shuffled):
        return f"{told}; not shown to be more than {control}"
    return f"{told}; {control}"


def _figures(data: ReportData, site: SiteReport, rewritten: Measured, shuffled: Measured | None) -> str:
    """What was measured, without a word on what it shows."""
    name, s = _name(data, site)
    if rewritten.recovered is None:
        return f"What {name} recover{s} is not defined: zeroing the latents costs no clear loss"
    theirs = "its coder does" if s else "their coders do"
    figure = numbers.percent_interval(rewritten.recovered)
    told = f"Measured, for {name} ({_extent(site, rewritten)}): {figure} of what {theirs}"
    if shuffled is None or shuffled.recovered is None:
        return told
    return f"{told}; with the explanations shuffled, {numbers.percent_interval(shuffled.recovered)}"


def _as_well(rewritten: Measured, shuffled: Measured) -> bool:
    """Whether the control does about as well: by the difference in the same documents, where that is known."""
    if rewritten.above_shuffled is not None:
        return rewritten.above_shuffled.sign != 1
    mine, its = rewritten.recovered, shuffled.recovered
    return mine is not None and its is not None and its.reach[1] >= mine.reach[0]


def _made_by(data: ReportData) -> tuple[str, ...]:
    speakers = data.speakers
    if speakers is None or not speakers.ask:
        return ()
    return (f"Explained by {speakers.explainer}, simulated by {speakers.simulator}.",)


def _name(data: ReportData, site: SiteReport) -> tuple[str, str]:
    """The subject of the sentence and the ending of its verb."""
    if site is data.joint and len(data.sites) > 1:
        return f"all {counted(len(data.sites), 'site')} together", ""
    return site.site, "s"


def _extent(site: SiteReport, rewritten: Measured) -> str:
    words = "no latent has an explanation"
    if site.words_mean is not None:
        words = f"mean {counted(round(site.words_mean), 'word')} a latent"
    if rewritten.fraction is None or rewritten.fraction >= 1:
        return words
    return f"{numbers.percent(rewritten.fraction, 1)} of the latents, {words}"


def _verdict(data: ReportData, site: SiteReport, rewritten: Measured) -> str:
    name, s = _name(data, site)
    theirs, share = "its coder does" if s else "their coders do", rewritten.recovered
    if share is None:
        return f"{name} cannot be judged: zeroing the latents costs no clear loss, so there is nothing to keep"
    figure = numbers.percent_interval(share)
    kept = f"{name} keep{s} {figure} of what {theirs}"
    if share.sign is None:
        return f"{kept}; how sure that is cannot be told from one document"
    if share.sign > 0:
        unsure = rewritten.p_beats_zero is not None and rewritten.p_beats_zero >= LEVEL
        return f"{kept}, not shown to be better than every latent at zero" if unsure else kept
    if share.sign < 0:
        return f"{name} do{'es' if s else ''} worse than with every latent at zero: {figure} of what {theirs}"
    if rewritten.equivalent_to_zero:
        return f"{kept}, equivalent to every latent at zero"
    return f"{kept}, which may be nothing: the interval touches zero"


def _cautions(rewritten: Measured, shuffled: Measured | None) -> tuple[str, ...]:
    notes: list[str] = []
    share = rewritten.recovered
    if rewritten.documents < 2:
        notes.append("Measured on a single document: how far the figures would vary on others is not known.")
    elif rewritten.documents < FEW_DOCUMENTS:
        notes.append(f"Measured on {counted(rewritten.documents, 'document')}: intervals over so few are too narrow.")
    if share is not None and share.sign == 1:
        if rewritten.p_beats_zero is not None and rewritten.p_beats_zero >= LEVEL:
            chance = numbers.p_value(rewritten.p_beats_zero)
            notes.append(f"Better than zero ablation is not shown: {chance} in the paired test, corrected for several.")
        if shuffled is not None and shuffled.withheld is None and _as_well(rewritten, shuffled):
            notes.append(
                "Shuffled explanations do about as well: this run does not show that the sentences themselves matter"
                + (f" (difference {numbers.percent_interval(apart)})." if (apart := rewritten.above_shuffled) else ".")
            )
        if rewritten.over_mean is not None and rewritten.over_mean.sign != 1:
            notes.append(
                f"Against every latent held at its mean the gain is {numbers.percent_interval(rewritten.over_mean)}: "
                "no better than a constant is not ruled out."
            )
    return tuple(notes)


def _losses(data: ReportData, site: SiteReport, rewritten: Measured, claims: bool) -> tuple[str, ...]:
    names = (("original", "original"), ("coder", "coder"), ("rewritten", "rewritten"), ("zero-latents", "latents zero"))
    found = [(label, whole(site, name)) for name, label in names]
    losses = [f"{label} {numbers.nats(row.ce.value)}" for label, row in found if row is not None]
    measured = f"{counted(rewritten.documents, 'document')}, {counted(rewritten.tokens, 'token')}"
    notes = [f"Loss in nats a token on {measured}: {', '.join(losses)}."]
    kept = _coder_keeps(site)
    if kept is not None:
        theirs = (
            ("Its coder keeps", "the module does") if _name(data, site)[1] else ("The coders keep", "the modules do")
        )
        notes.append(f"{theirs[0]} {numbers.percent(kept)} of what {theirs[1]}, counted from an output of zero.")
    if rewritten.over_mean is not None and (rewritten.over_mean.sign == 1 or not claims):
        notes.append(f"Over every latent held at its mean: {numbers.percent_interval(rewritten.over_mean)}.")
    if claims and rewritten.p_beats_zero is not None and rewritten.p_beats_zero < LEVEL:
        notes.append(f"Better than zero ablation: {numbers.p_value(rewritten.p_beats_zero)}, paired by document.")
    if site.explained < site.latents:
        explained = f"{numbers.count(site.explained)} of {counted(site.latents, 'latent')}"
        have = agreeing(site.explained, "has", "have")
        why = [f"{kind} {numbers.count(count)}" for kind, count in _without_explanation(data, site)]
        told = f" ({'; '.join(why)})" if why else ""
        notes.append(f"{explained} {have} an explanation; the others are failures{told}, put at 0.")
    if site.discarded is not None:
        share = numbers.percent(site.discarded, 1)
        notes.append(f"Of the simulator’s probability {share} went to anything but a level, and is left out (mean).")
    return tuple(notes)


def _without_explanation(data: ReportData, site: SiteReport) -> list[tuple[str, int]]:
    """Why latents have no explanation, most frequent first: what explaining failed on, what could not be read."""
    found: dict[str, int] = {}
    for one in data.sites if site is data.joint else (site,):
        for each in one.kinds:
            if each.stage == "explain" or each.kind == "not read":
                found[each.kind] = found.get(each.kind, 0) + each.latents
    return sorted(found.items(), key=lambda pair: -pair[1])


def _coder_keeps(site: SiteReport) -> float | None:
    """How much of the module the coder stands for: 0 is its output at zero, 1 the original model; None if undefined."""
    original, coder, nothing = (whole(site, name) for name in ("original", "coder", "zero-output"))
    if original is None or coder is None or nothing is None or nothing.ce.value <= original.ce.value:
        return None
    return (nothing.ce.value - coder.ce.value) / (nothing.ce.value - original.ce.value)
