"""Runs the command line as ``python -m ragkit_pipelines.cli``."""

from ragkit_pipelines.cli.main import main

main()
