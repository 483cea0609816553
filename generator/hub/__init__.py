"""The Hub: what it says of each model, read over the network only by ``refresh``, ``discover`` and ``add``.

A site build needs ``snapshot`` alone, which reads the committed files of ``catalog/hub``. Everything that touches the
network is imported by the commands that need it, so that a build works where no Hub client is installed.
"""

from generator.hub.snapshot import format_facts, read_snapshot, write_facts

__all__ = ["format_facts", "read_snapshot", "write_facts"]
