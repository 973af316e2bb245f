"""From a spec or a trained module to files for others: standalone Python, and one folder per runtime."""
