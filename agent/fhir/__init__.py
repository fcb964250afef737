"""What the history holds of one person, as a FHIR R4B bundle. Off the hot path; needs the extra [fhir]."""

from agent.fhir.command import export_command

__all__ = ["export_command"]
