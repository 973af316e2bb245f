"""Export of specs and trained modules: standalone Python, one folder per runtime."""
