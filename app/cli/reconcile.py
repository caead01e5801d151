"""`stillmotion reconcile`: after a restore, rows and bucket agree again."""

from collections.abc import Iterator
from uuid import UUID

import click

from app.cli.database import open_store
from app.cli.failures import ServerCommand
from app.config.settings import settings
from app.objects import Objects, objects_for
from app.store.job import restoring
from app.store.session import Store
from stillmotion.cli.exit_status import ExitStatus
from stillmotion.cli.options import json_option, print_json

BATCH = 500


@click.command(
    "reconcile",
    cls=ServerCommand,
    epilog="Exit status: 0 rows and objects agree, 3 unreachable, 8 --dry-run found lost clips, "
    "78 wrong configuration.",
)
@click.option("--dry-run", is_flag=True, help="Only report; change nothing.")
@json_option
def reconcile(dry_run: bool, as_json: bool) -> ExitStatus:
    """Expire the jobs whose clip a restore of the database or the bucket has lost.

    Reads the server's settings from the environment. Clients then get 410 for these jobs, not a
    link to nothing. Waiting jobs need no repair: they are rendered again from their picture.
    """
    known = settings()
    objects = objects_for(known)
    checked, lost = 0, 0
    with open_store(known.database_url) as store:
        for size, missing in missing_clips(store, objects):
            checked += size
            lost += len(missing)
            if missing and not dry_run:
                with store.begin() as tx:
                    restoring.expire(tx, missing)
    if as_json:
        print_json({"checked": checked, "missing": lost, "expired": 0 if dry_run else lost})
    else:
        done = "would expire" if dry_run else "expired"
        click.echo(f"{checked} clips checked, {lost} missing; {done} {lost} jobs")
    return ExitStatus.DISAGREE if lost and dry_run else ExitStatus.OK


def missing_clips(store: Store, objects: Objects) -> Iterator[tuple[int, list[UUID]]]:
    """Yield for each batch of clips that rows name: how many, and the jobs whose clip is missing.

    Rows and objects are read in the same order, so memory stays flat however many there are.
    Raises DatabaseUnavailable and StorageUnavailable.
    """
    stored = (info.key for info in objects.list("outputs/"))
    key = next(stored, None)
    after: UUID | None = None
    while True:
        with store.autocommit() as conn:
            batch = restoring.named_clips(conn, after=after, limit=BATCH)
        missing = []
        for clip in batch:
            while key is not None and key < clip.output_key:
                key = next(stored, None)
            # Asked for by name as well: a clip may have been stored since the walk passed its key.
            if key != clip.output_key and objects.head(clip.output_key) is None:
                missing.append(clip.job_id)
        if batch:
            yield len(batch), missing
            after = batch[-1].job_id
        if len(batch) < BATCH:
            return
