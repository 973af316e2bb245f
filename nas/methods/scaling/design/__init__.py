"""Networks of a scaling study: which there are, their cost, and their proxies."""
