"""How results are shown: plots, network drawings, pages, dashboard notes."""
