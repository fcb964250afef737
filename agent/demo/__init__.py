"""`vagus demo`: one command to something that moves on the screen, with the whole agent behind it and no hardware."""

from agent.demo.play import demo_command

__all__ = ["demo_command"]
