"""What the lab answers reads well, in a notebook and in a terminal, and adds up."""

from cluster.traffic import Series, Window
from widgets.answers import Outcome, Reply, Seen, compare
from widgets.stats import share


def seen(**counts: int) -> Seen:
    return Seen(("destination_version",), {(version,): n for version, n in counts.items()}, 10.0)


def test_telemetry_s_lines_are_summed_up_by_label() -> None:
    lines = [
        Series({"destination_version": "v1", "response_code": "200"}, [3, 4], 7, {}),
        Series({"destination_version": "v1", "response_code": "503"}, [1, 0], 1, {}),
        Series({"destination_version": "", "response_code": "503"}, [2, 0], 2, {}),
        Series({"destination_version": "v2", "response_code": "200"}, [0, 0], 0, {}),
    ]
    window = Window(110.0, 100.0, 5.0, lines)
    assert Seen.of(window, ("destination_version",), 10.0) == seen(unknown=2, v1=8)
    both = Seen.of(window, ("destination_version", "response_code"), 10.0)
    assert both.counts == {("unknown", "503"): 2, ("v1", "200"): 7, ("v1", "503"): 1}
    assert both["v1"] == share(8, 10)
    assert both["v9"] == share(0, 10)


def test_it_shows_every_row_with_its_interval() -> None:
    text = str(seen(v1=90, v3=10))
    assert text.splitlines()[1].split(maxsplit=2) == ["v3", "10", "10.0 % (5.5 to 17.4 %)"]
    html = seen(v1=90, v3=10)._repr_html_()
    assert "<b>10.0 %</b>" in html and "5.5 to 17.4 %" in html and "in 10 s" in html


def test_nothing_is_said_of_nothing() -> None:
    assert str(seen()) == "nothing seen"
    assert seen()._repr_html_() == "<i>nothing seen</i>"


def test_labels_cannot_write_html() -> None:
    assert "<script>" not in Seen(("a", "b"), {("<script>", "<script>"): 1}, 1.0)._repr_html_()


def test_a_prediction_fits_or_does_not() -> None:
    assert compare(10, share(9, 100)).endswith(": that fits.")
    assert compare(50, share(25, 100)).endswith(": that does not fit.")
    assert "Nothing was counted" in compare(50, share(0, 0))


def test_an_outcome_says_what_happened_and_what_to_mind() -> None:
    refused = Outcome(False, "virtualservice/reviews refused: <b> no")
    assert str(refused) == "✗ virtualservice/reviews refused: <b> no"
    assert not refused and "&lt;b&gt;" in refused.html()
    warned = Outcome(True, "applied", ("no such subset",))
    assert warned and str(warned) == "✓ applied\n⚠ no such subset"


def test_a_reply_is_one_line() -> None:
    assert repr(Reply(200, "v3", 12.34, {}, "<html>")) == "200 with reviews v3, 12 ms"
