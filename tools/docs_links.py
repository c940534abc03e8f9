"""Checks the built documentation: every link inside it leads to a place that there is.

``docs_links.py FOLDER`` ends with 1 if one does not. Links to the outside are listed, and not
followed: a build needs no network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        self.links += [given[key] for key in ("href", "src") if key in given]


def pages(folder: Path) -> dict[Path, _Page]:
    """Return all pages of a site by their paths."""
    return {path: _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def broken(site: dict[Path, _Page]) -> Iterator[str]:
    """Yield each link that leads nowhere."""
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not file.exists():
                yield f"{path}: {link}: no such file"
            elif file in site and anchor not in site[file].anchors:
                yield f"{path}: {link}: no such place in the page"


def external(site: dict[Path, _Page]) -> list[str]:
    """Return the links to the outside."""
    links = {link for page in site.values() for link in page.links}
    return sorted(link for link in links if urlsplit(link).netloc)


def main(folder: str) -> int:
    site = pages(Path(folder).resolve())
    found = sorted(broken(site))
    outside = external(site)
    print(
        f"{len(site)} pages, {len(outside)} links to the outside, not followed:",
        *outside,
        sep="\n  ",
    )
    print(*found, sep="\n", file=sys.stderr, end="\n" if found else "")
    return 1 if found or not site else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
