"""One resumable study on Optuna, whatever the method.

Settings, session, trial attributes, trial records, the trial loop.
"""
