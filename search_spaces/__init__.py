"""What a list of choices means: search spaces that decode a genotype into one network. Knows ``nas.arch`` alone."""
