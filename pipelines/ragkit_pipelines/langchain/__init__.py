"""Adapters between ragkit and LangChain, exported by `ragkit.langchain`. They need only langchain-core."""
