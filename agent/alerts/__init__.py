"""`vagus alerts`: what was raised, what became of it, what it rested on."""
