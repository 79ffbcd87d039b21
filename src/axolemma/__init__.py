"""Axolemma."""
