"""All agents of a site as one: how they are, and how a new version reaches them ring by ring."""
