"""Running plans: contexts, model calls, the executor and its trace."""
