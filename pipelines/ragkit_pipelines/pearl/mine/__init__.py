"""Mining actions from questions, and refining them."""
