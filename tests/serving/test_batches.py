"""Photos that wait become batches of the sizes that pay; nobody waits for nothing, and nothing is lost."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from serving.asking import Held, as_text, client, photo, served, small_model

from fastcnn.serving.batcher import Batcher, Item
from fastcnn.serving.calibration import batch_sizes, measured, useful_sizes
from fastcnn.serving.lanes import Lanes


class Tried:
    """A batcher with a function that notes its batches, and answers each number by its double."""

    def __init__(self, sizes=(1, 2, 4), max_wait=60.0, threads=1):
        self.batches, self.lanes, self.answers, self.wrong = [], [], {}, None
        self.go_on, self.entered, self.done = threading.Event(), threading.Event(), threading.Condition()
        self.batcher = Batcher(self.run, lambda version: sizes, max_wait, Lanes(threads))

    def run(self, version, arrays, lanes):
        self.batches.append((version, [int(array) for array in arrays]))
        self.lanes.append(lanes)
        self.entered.set()
        assert self.go_on.wait(60)
        if self.wrong is not None:
            raise self.wrong
        return np.array([2 * int(array) for array in arrays])

    def put(self, *numbers, version="v", expected=True):
        items = []
        for number in numbers:
            if expected:
                assert self.batcher.expect(1, 10_000)
            items.append(Item(version, np.array(number), lambda answer, number=number: self.answered(number, answer)))
            self.batcher.put(items[-1])
        return items

    def answered(self, number, answer):
        with self.done:
            self.answers[number] = answer
            self.done.notify_all()

    def wait(self, count):
        with self.done:
            assert self.done.wait_for(lambda: len(self.answers) == count, 60)

    def end(self):
        self.go_on.set()
        self.batcher.close()
        assert self.batcher.pending == 0


def test_what_waits_while_a_batch_runs_becomes_batches_that_pay():
    tried = Tried()
    tried.put(0)
    assert tried.entered.wait(60)
    tried.put(*range(1, 8))
    tried.end()
    assert [numbers for _, numbers in tried.batches] == [[0], [1, 2, 3, 4], [5, 6], [7]]
    assert tried.answers == {number: 2 * number for number in range(8)}


def test_where_batches_do_not_pay_photos_go_one_by_one():
    tried = Tried(sizes=(1,))
    tried.put(0)
    assert tried.entered.wait(60)
    tried.put(1, 2, 3)
    tried.end()
    assert [len(numbers) for _, numbers in tried.batches] == [1, 1, 1, 1]


def test_a_photo_alone_does_not_wait():
    tried = Tried(max_wait=1e6)
    tried.go_on.set()
    tried.put(5)
    tried.wait(1)
    tried.end()


def test_a_photo_waits_for_those_that_are_being_decoded():
    tried = Tried(max_wait=1e6)
    tried.go_on.set()
    assert tried.batcher.expect(2, 100)
    tried.put(1, expected=False)
    assert not tried.entered.wait(0.05)
    tried.put(2, expected=False)
    tried.wait(2)
    tried.end()
    assert [numbers for _, numbers in tried.batches] == [[1, 2]]


def test_no_longer_than_it_is_told_to():
    tried = Tried(max_wait=0.01)
    tried.go_on.set()
    assert tried.batcher.expect(2, 100)
    tried.put(1, expected=False)
    tried.wait(1)
    tried.batcher.forget(1)
    tried.end()


def test_a_photo_that_cannot_be_decoded_holds_up_nobody():
    tried = Tried(max_wait=1e6)
    tried.go_on.set()
    assert tried.batcher.expect(2, 100)
    tried.put(1, expected=False)
    tried.batcher.forget(1)
    tried.wait(1)
    tried.end()


def test_versions_of_a_model_are_not_mixed():
    tried = Tried()
    tried.put(0)
    assert tried.entered.wait(60)
    tried.put(1, 2, 3, version="old")
    tried.put(4, 5, version="new")
    tried.end()
    assert tried.batches[1:] == [("old", [1, 2]), ("old", [3]), ("new", [4, 5])]


def test_what_nobody_waits_for_is_not_computed():
    tried = Tried()
    tried.put(0)
    assert tried.entered.wait(60)
    for item in tried.put(1, 2, 3)[:2]:
        item.is_wanted = False
    tried.end()
    assert [numbers for _, numbers in tried.batches] == [[0], [3]]


def test_an_error_of_the_model_is_everybodys_answer_and_the_next_batch_runs():
    tried = Tried()
    tried.wrong = MemoryError("no room")
    tried.go_on.set()
    tried.put(1)
    tried.wait(1)
    assert tried.answers[1] is tried.wrong
    tried.wrong = None
    tried.put(2)
    tried.wait(2)
    assert tried.answers[2] == 4
    tried.end()


def test_a_full_queue_lets_nothing_in_and_a_closed_one_neither():
    tried = Tried()
    assert tried.batcher.expect(3, 4) and not tried.batcher.expect(2, 4) and tried.batcher.expect(1, 4)
    assert tried.batcher.pending == 4
    tried.batcher.forget(4)
    tried.end()
    assert not tried.batcher.expect(1, 4)


def test_a_photo_alone_has_all_lanes_and_others_one_each():
    tried = Tried(max_wait=1e6, threads=2)
    tried.put(0)
    assert tried.entered.wait(60)
    tried.entered.clear()
    tried.put(1)
    assert not tried.entered.wait(0.05)  # no lane is free
    tried.end()
    assert tried.batches == [("v", [0]), ("v", [1])] and tried.lanes == [2, 2]


def test_what_waits_is_shared_by_lanes_that_are_free():
    tried = Tried(max_wait=1e6, threads=2)
    assert tried.batcher.expect(4, 100)
    tried.put(1, 2, 3, expected=False)
    assert not tried.entered.wait(0.05)  # the fourth is being decoded
    tried.put(4, expected=False)
    until(lambda: len(tried.batches) == 2)  # at the same time
    tried.put(5, 6)
    tried.end()
    assert sorted(numbers for _, numbers in tried.batches[:2]) == [[1, 2], [3, 4]]
    assert tried.lanes[:2] == [1, 1] and len(tried.answers) == 6


def test_a_measurement_has_all_lanes_and_batches_let_it_in():
    lanes = Lanes(2)
    with lanes.changed:
        lanes.free -= 1  # a batch runs
    entered, leave = threading.Event(), threading.Event()

    def measure():
        with lanes.all():
            entered.set()
            assert leave.wait(60)

    thread = threading.Thread(target=measure)
    thread.start()
    until(lambda: not lanes.is_open)  # no other batch may begin
    assert not entered.is_set()
    lanes.give_back(1)
    assert entered.wait(60) and not lanes.is_open
    leave.set()
    thread.join()
    assert lanes.is_open and lanes.free == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_many_threads_lose_nothing(threads):
    tried = Tried(max_wait=0.001, threads=threads)
    tried.go_on.set()
    parts = np.arange(800).reshape(8, 100)
    threads = [threading.Thread(target=tried.put, args=tuple(map(int, part))) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tried.wait(800)
    tried.end()
    assert tried.answers == {number: 2 * number for number in range(800)}
    assert sorted(number for _, numbers in tried.batches for number in numbers) == list(range(800))


# -- calibration -------------------------------------------------------------------------------------------


def test_sizes_that_pay():
    assert useful_sizes({1: 1.0, 2: 1.9, 4: 3.0, 8: 8.0, 16: 10.0}) == [1, 2, 4, 16]
    assert useful_sizes({1: 1.0, 2: 1.99, 4: 3.98}) == [1]  # less than timing can tell
    assert [batch_sizes(most) for most in (1, 3, 32, 1000)] == [[1], [1, 2], [1, 2, 4, 8, 16, 32], [1, 2, 4, 8, 16, 32]]


def test_times_are_the_least_of_several_runs():
    now, runs = [0.0], []
    seconds = {1: iter([1.0, 0.02, 0.01, 0.03, *[0.05] * 20]), 2: iter([9.0, *[0.04] * 20])}

    def run(size):
        runs.append(size)
        now[0] += next(seconds[size])

    times = measured(run, [1, 2, 4], lambda: now[0])
    assert times == pytest.approx({1: 0.01, 2: 0.04})  # the first runs took all of the time there is
    assert runs[0] == 1 and 4 not in runs


# -- requests ----------------------------------------------------------------------------------------------


def test_requests_are_gathered(monkeypatch):
    application = served()
    version = application.service.models["model"].version
    version.sizes = [1, 2, 4]
    held = Held(monkeypatch)
    with client(application) as ask:
        first = ask.later("POST", "/v1/classify", content=photo())
        assert held.entered.wait(60)
        others = [ask.later("POST", "/v1/classify", content=photo(i)) for i in range(1, 5)]
        until(lambda: len(application.service.models["model"].batcher._items) == 4)
        held.go_on.set()
        answers = [one.result(60) for one in (first, *others)]
    assert held.sizes == [1, 4] and all(answer.status_code == 200 for answer in answers)
    model = small_model()
    for i, answer in enumerate(answers):
        (best, *_), (told, *_) = model.classify(photo(i)), answer.json()["results"][0]["predictions"]
        assert best.label == told["label"] and abs(best.probability - told["probability"]) < 2e-6


def test_answers_do_not_depend_on_lanes(monkeypatch):
    application, held = served(threads=2), Held(monkeypatch)
    held.go_on.set()
    with client(application) as ask:
        alone = ask.post(content=photo(1)).json()
        several = ask.post(json={"images": [as_text(photo(i)) for i in range(6)]}).json()
    assert alone["results"][0] == several["results"][1]
    assert held.lanes[0] == 2 and 1 in held.lanes


def test_photos_are_decoded_while_inference_runs(monkeypatch):
    application, held = served(), Held(monkeypatch)
    with client(application) as ask:
        asked = [ask.later("POST", "/v1/classify", content=photo(i, "JPEG")) for i in range(3)]
        assert held.entered.wait(60)
        until(lambda: application.service.models["model"].batcher._coming == 0)  # all are decoded, none is answered
        assert not any(one.done() for one in asked)
        held.go_on.set()
        assert all(one.result(60).status_code == 200 for one in asked)


def test_a_full_queue_is_told_with_a_time_to_come_back(monkeypatch):
    application, held = served(queue=4), Held(monkeypatch)
    version = application.service.models["model"].version
    version.seconds, version.sizes = {1: 2.5}, [1]
    with client(application) as ask:
        busy = ask.later("POST", "/v1/classify", json={"images": [as_text(photo(i)) for i in range(4)]})
        assert held.entered.wait(60)
        refused = ask.post(content=photo())
        assert refused.status_code == 429 and refused.headers["retry-after"] == "10"
        assert "4 photos wait already" in refused.json()["error"]
        held.go_on.set()
        assert busy.result(60).status_code == 200
        assert ask.post(content=photo()).status_code == 200
        assert ask.post(json={"images": [as_text(photo())] * 5}).status_code == 413  # more than can ever wait
        assert 'reason="queue"} 1' in ask.get("/metrics").text


def test_an_answer_that_takes_too_long_is_given_up(monkeypatch):
    application, held = served(timeout=0.2), Held(monkeypatch)
    with client(application) as ask:
        late = ask.post(content=photo())
        assert late.status_code == 503 and late.headers["retry-after"] and "no answer within 0.2 s" in late.text
        held.go_on.set()
        until(lambda: application.service.models["model"].batcher.pending == 0)
        application.service.settings.__dict__["timeout"] = 60.0
        assert ask.post(content=photo()).status_code == 200


def test_a_body_that_does_not_come_is_given_up():
    async def slowly():
        import asyncio

        yield b"x"
        await asyncio.sleep(60)

    application = served(timeout=0.2)
    with client(application) as ask:
        answer = ask.post(content=slowly())
        assert answer.status_code == 408 and "did not come within" in answer.text
        assert application.service._reading == 0


def test_a_fault_of_the_model_is_no_answer_but_500(monkeypatch):
    from fastcnn.serving.served import Version

    application, right = served(), Version.probabilities
    monkeypatch.setattr(Version, "probabilities", lambda *_: 1 / 0)
    with client(application) as ask:
        assert ask.post(content=photo()).status_code == 500
        monkeypatch.setattr(Version, "probabilities", right)
        assert ask.post(content=photo()).status_code == 200
        assert 'status="500"} 1' in ask.get("/metrics").text


def until(condition):
    """Wait for what other threads do."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")
