"""Checks of the command's output and effects."""

from app.store.job import jobs

MP4 = b"not really an MP4, but bytes of one"


def one_sentence(text: str) -> bool:
    return text.startswith("stillmotion: ") and text.count("\n") == 1 and "Traceback" not in text


def all_jobs(store):
    with store.autocommit() as conn:
        return conn.execute(jobs.jobs.select()).fetchall()
