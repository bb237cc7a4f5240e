"""What each framework's application does behind deferd, and docs/frameworks.md about it."""
