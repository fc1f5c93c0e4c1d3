"""``python -m autogroup`` is the ``autogroup`` command."""

from autogroup.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
