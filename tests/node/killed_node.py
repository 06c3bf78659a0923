"""`contour-ai serve` with quick workers, as a process that tests may kill: killed_node.py NODE.YAML."""

import sys
from pathlib import Path

from contour_ai.cli.main import cli
from contour_ai.node import workers

if __name__ == "__main__":
    workers.COMMAND = (sys.executable, str(Path(__file__).with_name("quick_worker.py")))  # type: ignore[misc]
    cli(["serve", "--config", sys.argv[1]])
