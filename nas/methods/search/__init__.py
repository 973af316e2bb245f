"""Architecture search: ask, screen, train, tell, and what comes out of it."""
