"""How teacher services stand, as people read it: rows of figures, and a board that shows them."""
