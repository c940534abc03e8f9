"""What is in dist/, checked for what other tools do not know; run by ``make package``.

With ``--release`` also whether it may be published.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

PROJECT = Path(__file__).parent.parent
SHARE = "data/share/saltext-kvmcluster/"
SHARED = ("pillar.example", "contrib", "states")
RELEASE = re.compile(r"[0-9]+(\.[0-9]+)+((a|b|rc)[0-9]+)?")


def wheel_faults(wheel: zipfile.ZipFile, metadata: Message) -> Iterator[str]:
    """Name what is missing or wrong in a wheel."""
    names = wheel.namelist()
    held = {name.partition(SHARE)[2] for name in names if SHARE in name}
    yield from (f"lacks {path}" for path in sorted(shared_files() - held))
    entry_points = wheel.read(one(names, ".dist-info/entry_points.txt")).decode()
    if "[salt.loader]" not in entry_points:
        yield "has no entry point by which Salt's loader finds it"
    if metadata["Version"] not in wheel.read(one(names, "/version.py")).decode():
        yield f"is {metadata['Version']}, and version.py says otherwise"
    links = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    yield from (
        f"links to {link}, which an index does not have"
        for link in links
        if not link.startswith(("https://", "#"))
    )


def release_faults(metadata: Message, changelog: str, fragments: list[str]) -> Iterator[str]:
    """Name what forbids to publish it."""
    version = metadata["Version"]
    if not RELEASE.fullmatch(version):
        yield f"is {version}: tag the commit (v1.2.3), with nothing changed since"
    elif f"\n## {version} (" not in changelog:
        yield f"CHANGELOG.md does not know {version}: towncrier build --version {version}"
    if fragments:
        yield f"changelog/ has what CHANGELOG.md lacks: {', '.join(fragments)}"
    homes = {url for url in metadata.get_all("Project-URL", []) if ".example" in url}
    if homes:
        yield f"{len(homes)} URLs name no real place: fill in [project.urls] in pyproject.toml"


def shared_files() -> set[str]:
    """Return the files that a wheel brings for people, as they are named in there."""
    found = (path for name in SHARED for path in [PROJECT / name, *(PROJECT / name).rglob("*")])
    return {path.relative_to(PROJECT).as_posix() for path in found if path.is_file()}


def one(names: list[str], end: str) -> str:
    """Return the one name that ends like that."""
    (name,) = (name for name in names if name.endswith(end))
    return name


def main(folder: Path, release: bool) -> int:
    """Print what is wrong, and return the exit code."""
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        metadata = Parser().parsestr(
            wheel.read(one(wheel.namelist(), ".dist-info/METADATA")).decode()
        )
        found = list(wheel_faults(wheel, metadata))
    if release:
        changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
        fragments = sorted(path.name for path in (PROJECT / "changelog").glob("*.*.md"))
        found += release_faults(metadata, changelog, fragments)
    for fault in found:
        print(f"{path.name}: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "--release" in sys.argv))
