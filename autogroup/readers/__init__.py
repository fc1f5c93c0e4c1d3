"""One file per format that a SOURCE can have; ``autogroup.load`` is their only caller."""
