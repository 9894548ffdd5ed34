"""The page as a browser's parser reads it."""

from html.parser import HTMLParser
from typing import Any

import pytest

from mesh.shop.page import index_page, product_page
from mesh.shop.productpage import PRODUCTS

VOID = {"meta", "link", "input", "rect", "circle", "path", "br"}
DETAILS = {"author": "William Shakespeare", "pages": 200, "ISBN-10": "1234567890"}


class Page(HTMLParser):
    """Collects text and attributes, and insists that every element is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def of(self, name: str, value: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if attrs.get(name) == value]


def reviews(rating: dict[str, Any] | None, text: str = "Fine.") -> dict[str, Any]:
    review = {"reviewer": "Reviewer1", "text": text} | ({} if rating is None else {"rating": rating})
    return {"podname": "reviews-v2-abc", "reviews": [review]}


def page(details: Any = DETAILS, reviews: Any = None, version: str = "v2", user: str = "") -> Page:
    return Page(product_page(PRODUCTS[0], details, reviews, version, user, "productpage-v1-xyz"))


def test_shows_product_details_and_who_served():
    shown = page(reviews=reviews({"stars": 4, "color": "black"}))
    for text in ("The Comedy of Errors", "William Shakespeare", "1234567890", "Fine.", "reviews v2"):
        assert text in shown.text
    assert "reviews-v2-abc" in shown.text and "productpage-v1-xyz" in shown.text
    (main,) = shown.of("data-reviews-version", "v2")
    assert main["data-reviews-pod"] == "reviews-v2-abc"


@pytest.mark.parametrize(("colour", "style"), [("black", "color:var(--v2)"), ("red", "color:var(--v3)")])
def test_stars_in_the_colour_of_the_version(colour, style):
    shown = page(reviews=reviews({"stars": 4, "color": colour}))
    (stars,) = shown.of("aria-label", "4 of 5 stars")
    assert stars["style"] == style
    assert shown.text.count("★") == 5  # four full ones, one pale


def test_a_version_without_ratings_shows_no_stars_and_no_excuse():
    shown = page(reviews=reviews(None), version="v1")
    assert "★" not in shown.text and "unavailable" not in shown.text


def test_says_what_is_unavailable():
    assert "Ratings service is currently unavailable" in page(reviews=reviews({"error": "..."})).text
    shown = page(details=None, reviews=None, version="unavailable")
    assert "product reviews are currently unavailable" in shown.text
    assert "product details are currently unavailable" in shown.text
    assert "The Comedy of Errors" in shown.text


def test_what_others_say_cannot_become_markup():
    evil = '<script>alert(1)</script>" onload="x'
    shown = page(reviews=reviews({"stars": 3, "color": 'red" onload="x'}, text=evil), version=evil, user=evil)
    assert "script" not in {tag for tag, _ in shown.elements}
    assert not any("onload" in attrs for _, attrs in shown.elements)
    assert shown.of("aria-label", "3 of 5 stars")[0]["style"] == "color:var(--ink)"


def test_signed_in_or_asked_to():
    assert "Signed in as jason" in page(user="jason").text
    (form,) = page().of("action", "login")
    assert form["method"] == "post"


@pytest.mark.parametrize("shown", [page(reviews=reviews(None)), Page(index_page())])
def test_stands_alone_and_links_relatively(shown):
    links = [
        attrs.get("href") or attrs.get("src") or attrs.get("action") or "" for _, attrs in shown.elements
    ]
    assert not [link for link in links if ":" in link or link.startswith("/")]
    assert not [tag for tag, _ in shown.elements if tag in ("script", "img", "iframe", "object")]
