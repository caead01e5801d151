"""The benchmark of a large database gets to its end, and says on the way what it knows."""

from scripts.benchmarks import scale

WANTED = {
    *("rows", "submit_p50_ms", "place_ms", "begin_p50_ms", "begin_snapshot_p95_ms"),
    *("list_rare_ms", "usage_30d_ms", "metrics_scrape_ms", "restore_s"),
}


def test_every_figure_is_measured_and_printed_when_it_is_known(capsys):
    seen = []

    def results():
        for each in scale.measured(rows=2_000, lives=10, snapshot_jobs=128):
            yield each
            seen.append(capsys.readouterr().err)  # what was printed before the next was asked for

    figures = scale.printed(results())
    assert {figure.name for figure in figures} >= WANTED
    assert all(figure.value > 0 for figure in figures)
    lines = [line for line in seen if " = " in line]
    assert [line.split()[2] for line in lines] == [figure.name for figure in figures]
