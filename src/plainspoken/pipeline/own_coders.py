"""The coders that a run holds, whole and of its model."""

from plainspoken.coders import Coder, load_coder, read_extra
from plainspoken.errors import CoderError
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.types import Site


def own_coders(workplace: Workplace) -> dict[Site, Coder]:
    """By site, those that are trained, on the model's device.

    Raises StoreError for one whose files were altered, CoderError for one that was trained on another model.
    """
    lm, found = workplace.lm, {}
    for site in workplace.sites:
        unit = workplace.folder(Unit("train", site.module))
        if unit.manifest() is None:
            continue
        unit.verify()
        told = read_extra(unit.path).get("lm_fingerprint")
        if told not in (None, lm.fingerprint):
            raise CoderError(
                f"{unit.path} holds a coder of another model than {lm.name} (its lm_fingerprint is {str(told)[:12]}, "
                f"the model's {lm.fingerprint[:12]}): name the model that it was trained on, or train anew with "
                "--force train"
            )
        found[site] = load_coder(unit.path).to(lm.device)
    return found
