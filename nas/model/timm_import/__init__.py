"""Conversion of timm modules to an ``ArchSpec``."""
