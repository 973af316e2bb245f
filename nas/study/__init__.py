"""One resumable study on Optuna, of whatever method: settings, trial attributes, records, the trial loop."""
