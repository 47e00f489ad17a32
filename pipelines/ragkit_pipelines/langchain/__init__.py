"""ragkit's parts as LangChain's, on langchain-core alone; `ragkit.langchain` gives the same names."""
