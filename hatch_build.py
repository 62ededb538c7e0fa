"""
What PyPI shows: the README with links that work outside the repository, and the addresses of the project.

The address is that of the environment variable ``REPOSITORY_URL`` at build time, such as ``https://host/owner/name``::

    REPOSITORY_URL=https://... python -m build

Without it, the package has no addresses, and its description has the text of the README's relative links alone.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+://|#)([^)\s]+)\)")


def outside_the_repository(text: str, address: str) -> str:
    """
    Rewrite the relative links of a text.

    :param text: Markdown
    :param address: Address of the repository; empty if it is unknown
    :return: The text with absolute links, or without its relative links and pictures if the address is unknown
    """

    def rewrite(link: re.Match[str]) -> str:
        picture, label, target = link.groups()
        if not address:
            return "" if picture else label
        # GitHub and GitLab have both paths.
        return f"{picture}[{label}]({address}/{'raw' if picture else 'blob'}/HEAD/{target})"

    return RELATIVE_LINK.sub(rewrite, text)


class WhatPyPIShows(MetadataHookInterface):
    """Called by hatchling, because ``pyproject.toml`` has the table ``tool.hatch.metadata.hooks.custom``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """
        Set the description and the addresses.

        :param metadata: The table ``project`` of ``pyproject.toml``, which is changed
        """
        address = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": outside_the_repository(readme, address)}
        metadata["urls"] = {
            name: f"{address}{path}"
            for name, path in {
                "Source": "",
                "Documentation": "/blob/HEAD/examples/guide/README.md",
                "Changelog": "/blob/HEAD/CHANGELOG.md",
                "Issues": "/issues",
            }.items()
            if address
        }
