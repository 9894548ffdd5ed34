"""What the product page looks like: pure functions from the services' answers to HTML.

The page needs nothing but itself: style and pictures are inline and every link is relative, so that it
looks the same at a gateway, behind the API server's service proxy and in a frame inside a notebook.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

_FILES = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

# By file name: content type and content.
STATIC = {path.name: (_TYPES[path.suffix], path.read_bytes()) for path in sorted(_FILES.iterdir())}

_CSS, _ICON, _COVER = (STATIC[name][1].decode().strip() for name in ("shop.css", "favicon.svg", "cover.svg"))

_HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="static/favicon.svg"><style>{_CSS}</style>
"""

_BRAND = f'<a class="brand" href="productpage">{_ICON}Corner Books</a>'

_DETAIL_LABELS = {
    "type": "Binding",
    "pages": "Pages",
    "publisher": "Publisher",
    "language": "Language",
    "year": "Written",
    "ISBN-10": "ISBN-10",
    "ISBN-13": "ISBN-13",
}

_SORRY_DETAILS = "Sorry, product details are currently unavailable for this book."
_SORRY_REVIEWS = "Sorry, product reviews are currently unavailable for this book."
_SORRY_RATING = "Ratings service is currently unavailable"
_MOST_STARS = 5


def product_page(
    product: dict[str, Any],
    details: dict[str, Any] | None,
    reviews: dict[str, Any] | None,
    version: str,
    user: str,
    pod: str,
) -> str:
    """The whole page. `details` or `reviews` is None when that service gave no answer; `version` says which
    reviews answered; `user` is who is signed in ("" for nobody); `pod` is the product page's own.
    """
    title = escape(str(product["title"]))
    author = f'<p class="by">by {_text(details, "author")}</p>' if details else ""
    reviews_pod = str(reviews.get("podname", "")) if reviews else ""
    return f"""{_HEAD}<title>{title} · Corner Books</title></head><body>
<header class="bar"><div>{_BRAND}{_who(user)}</div></header>
<main data-reviews-version="{escape(version)}" data-reviews-pod="{escape(reviews_pod)}">
<article class="card product">{_COVER}<div><h1>{title}</h1>
{author}{product["descriptionHtml"]}</div></article>
<section class="card" id="details"><div class="head"><h2>Details</h2></div>{_details(details)}</section>
<section class="card" id="reviews"><div class="head"><h2>Reviews</h2>{_served_by(version, reviews_pod)}</div>
{_reviews(reviews)}</section>
</main><footer>Page made by <span class="pod">{escape(pod)}</span></footer></body></html>
"""


def index_page() -> str:
    """The page at /: says what this is and leads to the one product."""
    return f"""{_HEAD}<title>Corner Books</title></head><body>
<header class="bar"><div>{_BRAND}</div></header>
<main><article class="card product"><div><h1>Corner Books</h1>
<p>A shop with one book, four services and, behind every one of them, a mesh.</p>
<p><a href="productpage">See the book</a></p></div></article></main></body></html>
"""


def _text(body: dict[str, Any], key: str) -> str:
    return escape(str(body.get(key, "unknown")))


def _who(user: str) -> str:
    if user:
        return f'<p class="who">Signed in as <b>{escape(user)}</b> · <a href="logout">Sign out</a></p>'
    return (
        '<form class="who" method="post" action="login">'
        '<input name="username" aria-label="Your name" placeholder="Name, e.g. jason" '
        'maxlength="64" required>'
        "<button>Sign in</button></form>"
    )


def _details(details: dict[str, Any] | None) -> str:
    if details is None:
        return f'<p class="sorry">{_SORRY_DETAILS}</p>'
    rows = (f"<dt>{label}</dt><dd>{_text(details, key)}</dd>" for key, label in _DETAIL_LABELS.items())
    return f"<dl>{''.join(rows)}</dl>"


def _served_by(version: str, pod: str) -> str:
    if not pod:
        return ""
    known = version if version in ("v1", "v2", "v3") else ""
    return (
        f'<span class="served"><span class="badge {known}">reviews {escape(version)}</span>'
        f'<span class="pod">{escape(pod)}</span></span>'
    )


def _reviews(reviews: dict[str, Any] | None) -> str:
    if reviews is None:
        return f'<p class="sorry">{_SORRY_REVIEWS}</p>'
    return "\n".join(_review(review) for review in reviews.get("reviews", ()))


def _review(review: dict[str, Any]) -> str:
    by = f"<span>{_text(review, 'reviewer')}</span>{_rating(review.get('rating'))}"
    return f'<blockquote class="review"><p>{_text(review, "text")}</p><footer>{by}</footer></blockquote>'


def _rating(rating: dict[str, Any] | None) -> str:
    """Stars; nothing where this version of reviews shows none; a sentence when ratings gave no answer."""
    if rating is None:
        return ""
    if "stars" not in rating:
        return f'<span class="note">{_SORRY_RATING}</span>'
    stars = max(0, min(_MOST_STARS, int(rating["stars"])))
    colour = _colour(str(rating.get("color", "")))
    label = f"{stars} of {_MOST_STARS} stars"
    shown = f"{'★' * stars}<i>{'★' * (_MOST_STARS - stars)}</i>"
    return f'<span class="stars" role="img" aria-label="{label}" style="color:{colour}">{shown}</span>'


def _colour(name: str) -> str:
    """A colour that is safe in a style attribute, dark enough to read."""
    softened = {"black": "var(--v2)", "red": "var(--v3)"}
    return softened.get(name) or (name if re.fullmatch(r"[a-z]{3,24}", name) else "var(--ink)")
