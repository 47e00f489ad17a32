"""Retrievers: queries in, hits out, behind one protocol. Each takes others or an index and can be put into others."""
