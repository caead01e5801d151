"""The HTML pages: the Studio at `/`, Operations at `/ops`, `/help` and `/docs`.

Plain files without a build step. Studio and Operations use the same API as everybody else; `/docs`
is rendered from the API's own document. The pages contain no data, so they need no session.
"""

from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, make_response, render_template

from app.web.reference import Reference, words

# Everything comes from this service, except clips, which come from their store. No inline script
# or style, so text in a job or a key's name can never run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' blob:; media-src 'self' {clips}; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)


def pages(
    clip_url: Callable[[], str], document: Callable[[], dict[str, Any]], public_url: str
) -> Blueprint:
    """All pages and their files. `clip_url` makes any URL of the kind that clips have, `document`
    returns the OpenAPI document. Their exceptions pass through the pages.
    """
    bp = Blueprint(
        "web",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/static",
    )

    bp.add_app_template_filter(words)

    @cache  # rendering takes a thousand times as long as sending
    def reference() -> str:
        return render_template("docs.html", reference=Reference(document()))

    def page(html: str) -> Response:
        clips = urlsplit(clip_url())
        answer = make_response(html)
        answer.headers.update(
            {
                "Content-Security-Policy": POLICY.format(clips=f"{clips.scheme}://{clips.netloc}"),
                "Cross-Origin-Opener-Policy": "same-origin",
                "Referrer-Policy": "same-origin",
                "Cache-Control": "no-cache",
            }
        )
        return answer

    def guide() -> Response:
        return page(render_template("help.html", public_url=public_url.rstrip("/")))

    bp.add_url_rule("/", "studio", lambda: page(render_template("studio.html")))
    bp.add_url_rule("/help", "guide", guide)
    bp.add_url_rule("/ops", "operations", lambda: page(render_template("ops.html")))
    bp.add_url_rule("/docs", "docs", lambda: page(reference()))
    return bp
