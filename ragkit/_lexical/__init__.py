"""Lexical scoring for selectors and retrievers: tokenisation, posting lists, BM25 and its relatives, rank fusion."""
