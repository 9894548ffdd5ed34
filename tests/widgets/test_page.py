"""The shop's page in a frame: nothing of it can break out, and it knows when it cannot be reached."""

from html.parser import HTMLParser

from widgets.page import frame


class Frames(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.frames: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "iframe":
            self.frames.append(dict(attrs))


def test_the_fetched_page_is_in_the_frame_unchanged() -> None:
    fetched = '<p title="it\'s">5 > 3 & "quoted"</p></iframe><script>alert(1)</script>'
    parser = Frames()
    parser.feed(frame("http://127.10.0.1:30080/productpage", fetched))
    assert [f["srcdoc"] for f in parser.frames] == [fetched]


def test_two_frames_are_two() -> None:
    one, two = frame("http://a/", ""), frame("http://a/", "")
    assert one != two
