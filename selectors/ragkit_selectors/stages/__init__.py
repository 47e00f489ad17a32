"""Stages that process the ranking of a selector: filters, diversity, coverage, reranking and prompt order."""
