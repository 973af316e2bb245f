"""What optuna-dashboard shows of a study: notes, attached files, and serving it."""
