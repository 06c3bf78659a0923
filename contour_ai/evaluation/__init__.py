"""How well contours agree: measures in millimetres, and tables of them."""
