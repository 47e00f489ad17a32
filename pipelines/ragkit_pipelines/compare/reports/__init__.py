"""Reports of comparisons: Markdown, HTML, and differences between two comparisons."""
