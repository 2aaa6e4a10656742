"""How one model computes one batch: the paths there are, and which goes on when another fails."""
