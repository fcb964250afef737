"""`vagus report`: what the history holds of one person's last days, as a page for any browser and as numbers."""

from agent.report.command import report_command

__all__ = ["report_command"]
