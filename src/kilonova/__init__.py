"""Kilonova: Nova + Neutron merged into one light process."""

__version__ = "0.1.0"
