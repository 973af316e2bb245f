"""Conversion between an ``ArchSpec`` and a timm module; MixConv; initialisation.

The only package that uses timm's private names.
"""
