"""An agent in several processes: a parent that watches nobody, and workers that have a share of the patients each.

The workers share nothing but the broker, the config and the machine: each has its own folder, outbox, connections and
sessions, so that one that dies takes nothing of the others with it. What is one for the whole agent is the parent's.
"""
