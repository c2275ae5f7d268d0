"""Measurements of Pillion against real processes over loopback: ``python -m bench``."""
