"""The dispatcher process: `python -m app.dispatcher`."""

import sys

from app.starting import exit_on_sigterm

if __name__ == "__main__":
    exit_on_sigterm()
    from app.dispatcher.entry import main  # imports for a second

    sys.exit(main())
