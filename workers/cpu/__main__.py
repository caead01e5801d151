"""The CPU worker: `python -m workers.cpu`. Sends webhooks and sweeps storage."""

from app.starting import exit_on_sigterm

if __name__ == "__main__":
    exit_on_sigterm()
    from workers.cpu.entry import main  # imports for a second

    main()
