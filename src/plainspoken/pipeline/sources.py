"""What a corpus's name stands for right now, as a hash: a text that changed is another corpus."""

import hashlib
from pathlib import Path

from plainspoken.corpus.stdlib import standard_library_files
from plainspoken.store import sha256_file
from plainspoken.store.manifest import digest


def source_fingerprint(source: str) -> str:
    """Hash of the text behind a corpus source: every file's path and content.

    Of a hub corpus or the model's own samples the name is all there is to hash: the one is fixed by whoever publishes
    it, the other by the model and the seed.
    """
    if source == "stdlib":
        return digest([(key, sha256_file(path)) for key, path in standard_library_files()])
    path = Path(source)
    if source.startswith(("self:", "hf:")) or not path.exists():
        return hashlib.sha256(source.encode()).hexdigest()
    if path.is_dir():
        # What lies in a hidden folder (a version control's, say) is no text.
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        return digest([(p.relative_to(path).as_posix(), sha256_file(p)) for p in files])
    return sha256_file(path)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
