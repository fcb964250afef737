"""Signed bundles, and two versions side by side."""
