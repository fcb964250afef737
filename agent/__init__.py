"""The running agent: streams in, decisions, alerts out. Research software, not a medical device."""

__version__ = "0.1.0"
