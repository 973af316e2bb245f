"""Tests of the netadapt method."""
