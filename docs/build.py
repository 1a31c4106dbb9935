"""Build the manual into site/: warnings are errors, links are checked, and nothing on a page comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself."""


class Fetched(HTMLParser):
    """Collects what a page loads from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted, given = LOADED.get(tag), dict(attrs)
        address = given.get(wanted) if wanted else None
        if address and re.match(r"(https?:)?//", address) and given.get("rel") not in ("canonical", "next", "prev"):
            self.foreign.append(address)


def foreign(site: Path) -> list[str]:
    """What the pages of a site load from other hosts: `page: address`."""
    found = []
    for page in sorted(site.rglob("*.html")):
        parser = Fetched()
        parser.feed(page.read_text())
        found += [f"{page.relative_to(site)}: {address}" for address in parser.foreign]
    return found


def main() -> int:
    """Build; 0 when everything is right."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--site-dir", str(site.resolve())]
    # The theme advertises its successor in every build otherwise.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    if code := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        return code
    if strangers := foreign(site):
        print("A page must not load anything from another host:", *strangers, sep="\n  ", file=sys.stderr)
        return 1
    print(f"The manual: {site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
