"""Ranking scaled networks: noise between seeds, rounds of trainings, and the order that the noise allows."""
