"""The page that figures are drawn for."""

# In inches: the width of the text block of the paper.
TEXT_WIDTH = 6.05
