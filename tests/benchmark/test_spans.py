"""Clock arithmetic: overlapping calls count once, and a clock changes nothing but the time."""

import inspect
import threading

import pytest

from optimum_pixart_neuron.benchmark.spans import Recorder, Span, covered, outside


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([Span(1, 3)], 2),
        ([Span(1, 3), Span(5, 6)], 3),
        ([Span(2, 6), Span(1, 3)], 5),
        ([Span(0, 10), Span(2, 3), Span(9, 12)], 12),
    ],
)
def test_covered_counts_overlaps_once(spans, seconds):
    assert covered(spans) == seconds


def test_outside_leaves_out_what_others_cover():
    assert outside([Span(0, 10)], [Span(2, 4), Span(3, 5), Span(9, 20)]) == 6
    assert outside([Span(0, 1)], []) == 1
    assert outside([Span(3, 4)], [Span(0, 5)]) == 0


def test_every_call_leaves_a_span_even_one_that_fails():
    recorder = Recorder()

    def divide(one, by=1):
        return one / by

    clocked = recorder.timed("divide", divide)
    assert clocked(6, by=3) == 2
    with pytest.raises(ZeroDivisionError):
        clocked(6, by=0)
    assert len(recorder.spans["divide"]) == 2
    assert all(span.end >= span.begin for span in recorder.spans["divide"])
    assert inspect.signature(clocked) == inspect.signature(divide), "the pipeline asks the scheduler for it"
    recorder.clear()
    assert recorder.spans == {"divide": []}


def test_threads_record_at_the_same_time():
    recorder, barrier = Recorder(), threading.Barrier(2)
    clocked = recorder.timed("wait", barrier.wait)
    threads = [threading.Thread(target=clocked) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = recorder.spans["wait"]
    assert first.begin < second.end and second.begin < first.end
