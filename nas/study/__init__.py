"""The search itself: ask, screen, train, tell, and what comes out of it."""
