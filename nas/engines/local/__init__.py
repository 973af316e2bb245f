"""Trials on this machine: worker processes under a supervisor."""
