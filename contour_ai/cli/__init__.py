"""The command line: the only place that prints, draws progress bars or sets exit statuses.

Commands are loaded on first use, so that ``contour-ai --help`` imports no heavy package.
"""

from __future__ import annotations

from contour_ai.cli.main import main

__all__ = ["main"]
