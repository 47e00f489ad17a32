"""Checks of task data: duplicates, contradictions, leaked test rows and label noise."""
