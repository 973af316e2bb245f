"""Architecture search: ask-and-tell, screening, pruning, and the files it writes."""
