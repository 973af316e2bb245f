"""Utilities of all rooms: errors, validation, files, formatting, console.

Nothing here knows about networks.
"""
