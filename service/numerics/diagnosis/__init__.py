"""The catalogue of bugs, and the search for those that explain a wrong gradient."""
