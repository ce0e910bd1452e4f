"""The soak: many uploads, good and bad, through the real template, their events repeated, shuffled and lost."""
