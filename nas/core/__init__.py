"""What every room may use, and what knows nothing of networks: errors, validation, files, formatting, console."""
