"""PEARL: plans of typed steps over a long document (Sun et al., EACL 2024), made by a model and run in parallel."""
