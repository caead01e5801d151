"""The plans of the statements that a piece of code sends."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection

from app.store.session import Store
from tests.support.statements import hear

Plan = dict[str, Any]


def plans(
    store: Store, work: Callable[[Connection], object], *, run: bool = True
) -> Iterator[Plan]:
    """The plans of the statements that `work` sends; everything is rolled back.

    `run`: execute them again, so that the plans have the rows that were really read.
    """
    sent = []

    def note(statement, parameters):
        sent.append((statement, parameters))

    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        stop = hear(connection.connection.driver_connection, before=note)
        try:
            work(connection)
        finally:
            connection.rollback()
            stop()
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)" if run else "EXPLAIN (FORMAT JSON)"
        for statement, parameters in sent:
            if not statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
                continue  # has no plan
            explained = connection.exec_driver_sql(
                f"{explain} {statement}", parameters
            ).scalar_one()
            connection.rollback()
            yield (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]


def nodes(plan: Plan) -> Iterator[Plan]:
    """Every node of a plan, from the top."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def indexes_of(plan: Plan, table: str) -> set[str | None]:
    """The indexes by which a plan reads a table; None: it reads the table without one."""
    found: set[str | None] = set()
    for node in nodes(plan):
        if node.get("Relation Name") != table or node["Node Type"] == "ModifyTable":
            continue
        if node["Node Type"] == "Bitmap Heap Scan":
            found |= {each["Index Name"] for each in nodes(node) if "Index Name" in each}
        elif "Scan" in node["Node Type"]:
            found.add(node.get("Index Name"))
    return found
