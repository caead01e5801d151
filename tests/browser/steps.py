"""What a person does on the pages."""

from playwright.sync_api import Page, expect

from tests.browser import WAIT_MS

expect.set_options(timeout=WAIT_MS)


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def choose(page: Page, data: bytes, name: str = "photo.jpg", mime: str = "image/jpeg") -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#pick").click()
    chooser.value.set_files([{"name": name, "mimeType": mime, "buffer": data}])


def state(page: Page):
    """The state of the job on the stage."""
    return page.locator("#stage-state")


def submit(page: Page, photo: bytes, prompt: str = "gentle waves") -> None:
    choose(page, photo)
    expect(page.get_by_role("img", name="The chosen picture")).to_be_visible()
    page.get_by_label("What should move?").fill(prompt)
    page.get_by_role("button", name="Animate").click()
    expect(state(page)).to_be_visible()
