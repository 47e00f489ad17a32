"""Plans: actions, the plan language, its parser and checks, and the planner."""
