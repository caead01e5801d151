"""The GPU worker: `python -m workers.gpu`. One process per GPU, one job at a time."""

from app.starting import exit_on_sigterm

if __name__ == "__main__":
    exit_on_sigterm()
    from workers.gpu.entry import main  # imports for a second, then loads the model

    main()
