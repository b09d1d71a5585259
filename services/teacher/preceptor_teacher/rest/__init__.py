"""The friendly REST form of scoring: lists instead of planes, null for missing, "-inf" for probability zero."""
