"""The networks of a scaling study: which there are, what each costs, and its proxy."""
