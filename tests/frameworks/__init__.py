"""What each framework's application does behind deferd: the visits, the sites, and docs/frameworks.md."""
