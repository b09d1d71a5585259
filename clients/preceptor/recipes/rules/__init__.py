"""Rules that a recipe must keep to be able to learn, one idea a file. Each rule yields findings."""
