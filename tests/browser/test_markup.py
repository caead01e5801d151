"""Texts that would run if a page took them for markup (XSS): prompts, metadata, names of keys."""

from app.store import keys
from tests.browser import steps
from tests.browser.steps import expect
from tests.support import hostile, make

WATCH = "window.hits = 0; window.hit = () => { window.hits += 1; };"


def test_no_text_runs_on_any_page(visit, store):
    with store.begin() as tx:
        owner, key = keys.create(tx, hostile.MARKUP[0], ("jobs", "admin"))
    for text in hostile.MARKUP:
        make.submit(store, owner, prompt=text, labels={text[:40]: text}, home_region="eu-west")
    page = visit("/help")
    page.add_init_script(WATCH)
    page.goto("/")
    steps.sign_in(page, key)
    expect(page.locator("#key-name")).to_have_text(hostile.MARKUP[0])
    titles = page.locator("#cards p.title")
    expect(titles.first).to_be_visible()
    while page.locator("#older").is_visible():
        shown = titles.count()
        page.locator("#older").click()
        expect(titles).not_to_have_count(shown)
    expect(titles).to_have_count(len(hostile.MARKUP))
    assert set(titles.all_text_contents()) == set(hostile.MARKUP)
    for n in range(0, len(hostile.MARKUP), 6):  # the stage shows one with all its fields
        page.locator("#cards .thumb").nth(n).click()
        expect(page.locator("#stage-state")).to_be_visible()
    assert page.evaluate("window.hits") == 0
    page.goto("/ops")
    expect(page.get_by_role("heading", name="Waiting jobs")).to_be_visible()
    expect(page.locator("#waiting tr").first).to_be_visible()
    assert page.evaluate("window.hits") == 0
    assert len(hostile.MARKUP) >= hostile.documented("XSS")
