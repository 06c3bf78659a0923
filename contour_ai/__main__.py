"""Runs the command line as ``python -m contour_ai``."""

from contour_ai.cli import main

if __name__ == "__main__":
    main()
