"""AI contours against the approved ones, over time: what was edited, and whether that changes."""
