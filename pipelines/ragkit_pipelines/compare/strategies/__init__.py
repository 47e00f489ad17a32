"""Strategies for solving a task: prompting, scoring, retrieval, training, and their names."""
