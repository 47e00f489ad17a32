"""Statistics of comparisons: intervals, tests, curves, costs and the recommendation."""
