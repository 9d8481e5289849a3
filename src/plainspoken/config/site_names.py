"""What the setting `site` says of a module's path, before there is a model to look in."""

from fnmatch import fnmatchcase


def is_named(module: str, pattern: str) -> bool:
    """Whether one of the paths or globs in `pattern`, with commas between, fits a module's path part by part."""
    return any(_fits(module.split("."), name.strip().split(".")) for name in pattern.split(","))


def _fits(path: list[str], glob: list[str]) -> bool:
    return len(path) == len(glob) and all(map(fnmatchcase, path, glob))
