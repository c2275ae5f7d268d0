from proxy.demo.stats import Stats


def test_computed_calls_are_counted_by_size_and_by_key() -> None:
    stats = Stats()
    for items, once in ((10, b"a"), (2, None), (2, b"b"), (1, b"a")):
        stats.computed(items, once)
    shown = stats.snapshot()
    assert (shown["calls"], shown["items"]) == (4, 15)
    assert shown["batch_sizes"] == {"1": 1, "2": 2, "10": 1}
    assert (shown["once"], shown["repeated"]) == (2, 1)


def test_reset_keeps_what_is_current() -> None:
    stats = Stats(requests=5, open_connections=3, executing=2, peak_executing=9, queued=1)
    stats.reset()
    assert stats == Stats(open_connections=3, executing=2, queued=1)
