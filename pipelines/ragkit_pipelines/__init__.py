"""Pipelines: few-shot prompting, the comparison, the command line."""
