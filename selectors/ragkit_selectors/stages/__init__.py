"""Stages behind a selector: filters, diversity, coverage, reranking and prompt order."""
