"""What each command of ``autogroup`` does: one file per command, imported when it runs."""

OK, FINDINGS = 0, 1
"""Exit codes of a command that did what it was asked to: nothing to act on, or something."""
