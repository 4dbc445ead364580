"""Moved: load.py and save.py. This file goes away."""

