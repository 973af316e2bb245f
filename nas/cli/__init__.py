"""Shared code of the commands: options, configuration, completion, multirun."""
