"""The operations page shows problems live, without a reload."""

import pytest

from app.broker.connections import wake
from app.store.traffic import controls
from tests.browser import steps
from tests.browser.steps import expect
from tests.support import make

# The API's answer where regions are routed by load.
ROUTED = {
    "object": "list",
    "table": {"version": 41, "age_s": 3.2, "mode": "normal", "pinned": False, "shed": 0.0},
    "data": [
        {
            "id": home,
            "state": state,
            "ready": ready,
            "busy": busy,
            "waiting": 2,
            "ceiling": None if load is None else 0.8,
            "load": load,
            "shares": shares,
            "drained": home == "eu-west",
            "cap": None,
        }
        for home, state, ready, busy, load, shares in (
            (
                "us-east",
                "serving",
                10,
                9,
                0.91,
                {"us-east": 0.7, "us-west": 0.295, "eu-west": 0.005},
            ),
            ("us-west", "no_workers", 0, 0, None, {"us-west": 1.0}),
            ("eu-west", "drained", 3, 0, None, {"us-east": 0.6, "us-west": 0.4}),
        )
    ],
}


def row(page, table, text):
    return page.locator(f"#{table} tr").filter(has_text=text)


def test_a_key_without_the_scope_is_refused_politely(visit, api_key):
    page = visit("/ops")
    steps.sign_in(page, api_key)
    expect(page.get_by_text("The key “test” lacks the scope “admin”.")).to_be_visible()
    expect(page.get_by_role("heading", name="Waiting jobs")).not_to_be_visible()


def test_waiting_and_failed_jobs_are_shown_live(visit, site, store, admin_key):
    owner = make.owner(store)
    page = visit("/ops")
    steps.sign_in(page, admin_key)
    expect(page.get_by_text("No job is waiting.")).to_be_visible()
    expect(row(page, "regions", "us-east").locator("td").first).to_have_text("1")
    expect(row(page, "regions", "eu-west").locator("td").first).to_have_text("0")
    expect(page.get_by_role("link", name="Flower")).to_have_attribute(
        "href", "http://127.0.0.1:5555"
    )

    stuck = make.submit(store, owner, home_region="eu-west", policy="strict")
    expect(row(page, "waiting", str(stuck)[-12:])).to_contain_text("no idle worker")
    make.submit(store, owner, steps=20)
    wake(site.fleet.redis)
    expect(row(page, "regions", "us-east").locator("td").nth(1)).to_have_text("1")
    make.backdate(store, stuck, "queue_deadline")
    expect(row(page, "failures", str(stuck)[-12:])).to_contain_text("expired")
    expect(page.get_by_text("No job is waiting.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_fits_and_reads_well(visit, store, admin_key, axe, tmp_path, scheme, width):
    owner = make.owner(store)
    late = make.submit(store, owner, home_region="us-west", policy="strict")
    make.backdate(store, late, "queue_deadline")
    for _ in range(3):
        make.submit(store, owner, home_region="eu-west", policy="strict")
    page = visit("/ops", color_scheme=scheme, viewport={"width": width, "height": 800})
    page.route("**/v1/regions", lambda route: route.fulfill(json=ROUTED))
    steps.sign_in(page, admin_key)
    expect(page.locator("#failures tr")).to_have_count(1)
    expect(page.locator("#waiting tr")).to_have_count(3)
    cells = page.locator("#routes tr").first.locator("td")
    assert cells.all_inner_texts() == ["70", "30", "<1"]
    expect(row(page, "regions", "us-east")).to_contain_text("91 % of 80 %")
    expect(row(page, "regions", "us-west")).to_contain_text("no worker is ready")
    expect(row(page, "regions", "eu-west")).to_contain_text("takes no new jobs")
    for down in ("us-west", "eu-west"):
        expect(row(page, "regions", down)).not_to_contain_text("%")
    expect(page.get_by_role("button", name="Undrain eu-west")).to_be_visible()
    page.screenshot(path=tmp_path / f"ops-{scheme}-{width}.png", full_page=True)
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_draining_asks_first_and_lasts_until_it_is_undone(visit, store, admin_key):
    page = visit("/ops")
    steps.sign_in(page, admin_key)
    drain = page.get_by_role("button", name="Drain us-west", exact=True)  # not "Undrain us-west"
    drain.click()
    page.get_by_role("button", name="Leave it").click()
    expect(drain).to_be_focused()
    assert verbs(store) == []
    drain.click()
    page.get_by_role("button", name="Drain", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(row(page, "regions", "us-west")).to_contain_text("drained")
    page.get_by_role("button", name="Undrain us-west").click()
    expect(drain).to_be_visible()
    expect(page.locator("#ops-error")).to_be_empty()
    assert verbs(store) == [("regions.drain", "us-west"), ("regions.undrain", "us-west")]


def verbs(store):
    """The operators' decisions, oldest first."""
    with store.autocommit() as conn:
        rows = controls.audit(conn, limit=9, after=None)
    return [(entry.verb, entry.subject) for entry in reversed(rows)]
