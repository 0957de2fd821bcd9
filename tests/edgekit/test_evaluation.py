import numpy as np
import pytest

from edgekit import Recipe
from edgekit.evaluation import Evaluation, Recorder
from edgekit_runtime.errors import EvaluationError, SessionError


def accuracy(predictions, labels):
    return float(np.mean(np.asarray(predictions) == np.asarray(labels)))


def made(examples, metric=accuracy, **fields):
    evaluation = examples if callable(examples) else lambda: examples
    return Evaluation(Recipe(name="a", model=lambda: None, example=dict, evaluation=evaluation, metric=metric, **fields))


def labelled(count, seed=0):
    labels = np.random.default_rng(seed).integers(0, 4, count)
    return [({"x": np.zeros(1)}, int(label)) for label in labels], labels


def wrong(labels, rate, seed):
    """The labels, with a share of them wrong."""
    draw = np.random.default_rng(seed)
    return [int(label) if draw.random() >= rate else int(label + 1) % 4 for label in labels]


def test_the_interval_covers_the_true_drop_most_of_the_time():
    covered = 0
    for seed in range(60):
        examples, labels = labelled(300, seed)
        evaluation = made(examples)
        base, other = wrong(labels, 0.1, 2 * seed), wrong(labels, 0.18, 2 * seed + 1)
        drop, (low, high) = evaluation.drop(evaluation.reference(base), other)
        assert low <= drop <= high
        covered += low <= 0.08 <= high
    assert covered >= 52  # 95 % of 60 are 57


def test_the_interval_is_paired_and_the_same_every_time():
    examples, labels = labelled(400)
    base = wrong(labels, 0.4, 1)
    near = [*base[:-2], *((value + 1) % 4 for value in base[-2:])]
    first, second = (made(examples).drop(made(examples).reference(base), near) for _ in range(2))
    assert first == second
    # Two examples of 400 differ. Unpaired, the interval would be about ±0.07 wide, since 40 % are wrong.
    assert max(abs(end) for end in first[1]) < 0.02


def test_equal_predictions_lose_exactly_nothing():
    examples, labels = labelled(20)
    evaluation = made(examples)
    base = wrong(labels, 0.4, 1)
    assert evaluation.drop(evaluation.reference(base), list(base)) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    "prediction", [np.arange(3), {"a": np.arange(3)}, [np.arange(3), np.arange(2)], ("text", 1), None, {"a": [np.arange(2)]}]
)
def test_predictions_may_be_of_any_kind(prediction):
    seen = []

    def metric(predictions, labels):
        seen.append((type(predictions), type(labels), type(predictions[0])))
        return float(sum(one is not None for one in predictions) + len(labels))

    evaluation = made([({}, "label")] * 5, metric)
    reference = evaluation.reference([prediction] * 5)
    assert evaluation.drop(reference, [prediction] * 4 + [None])[0] == (prediction is not None)
    assert set(seen) <= {(list, list, type(prediction)), (list, list, type(None))}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "high", None])
def test_a_metric_that_gives_no_finite_number_is_told_in_one_line(value):
    with pytest.raises(EvaluationError, match=r"evaluate a: metric\(\) gave") as error:
        made([({}, 1)], lambda _predictions, _labels: value).reference([1])
    assert "\n" not in str(error.value)


def test_a_metric_that_raises_is_told():
    def metric(predictions, labels):
        raise ZeroDivisionError("no positives")

    with pytest.raises(EvaluationError, match=r"metric\(\) raised ZeroDivisionError: no positives"):
        made([({}, 1)], metric).reference([1])


@pytest.mark.parametrize("raises", [True, False])
def test_some_resamples_without_a_metric_are_left_out(raises):
    def recall(predictions, labels):
        """Of the positives; a resample without any has none."""
        positives = [prediction for prediction, label in zip(predictions, labels, strict=True) if label]
        if not positives and raises:
            raise ValueError("only one class")
        return float(np.mean(positives)) if positives else float("nan")

    examples = [({}, int(index < 3)) for index in range(12)]
    evaluation = made(examples, recall)
    drop, (low, high) = evaluation.drop(evaluation.reference([1] * 12), [1, 1, 0] + [1] * 9)
    assert drop == pytest.approx(1 / 3)
    assert 0 <= low <= drop <= high <= 1


def test_most_resamples_without_a_metric_are_an_error():
    def picky(predictions, labels):
        return 1.0 - 0.1 * sum(predictions) if sorted(labels) == list(range(8)) else float("nan")

    evaluation = made([({}, index) for index in range(8)], picky)
    with pytest.raises(EvaluationError, match="on most resamples of 8 examples; give more"):
        evaluation.drop(evaluation.reference([0] * 8), [0] * 7 + [1])


@pytest.mark.parametrize(
    ("examples", "told"),
    [
        ([], "gave no examples"),
        (iter([]), "expected a sequence"),
        ([1, 2], "example 0 is a int, expected a pair"),
        ([({}, 1, 2)], "example 0 is a tuple, expected a pair"),
        (lambda: 1 / 0, r"evaluation\(\) raised ZeroDivisionError"),
    ],
)
def test_examples_that_do_not_hold(examples, told):
    with pytest.raises(EvaluationError, match=told):
        made(examples)


def test_an_example_that_cannot_be_read_later_is_told():
    class Broken(list):
        def __getitem__(self, index):
            if index == 2:
                raise OSError("image 2 is gone")
            return super().__getitem__(index)

    evaluation = made(Broken([({}, 1)] * 4))
    with pytest.raises(EvaluationError, match=r"evaluation\(\)\[2\] raised OSError: image 2 is gone"):
        evaluation.predict(dict)


def test_each_example_is_read_once_for_its_prediction_and_label():
    read = []

    class Counted(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    evaluation = made(Counted([({"x": np.zeros(1)}, 1)] * 4), predict=lambda _run, _value: 1)
    read.clear()
    reference = evaluation.reference(evaluation.predict(dict))
    evaluation.drop(reference, [1, 1, 1, 0])
    assert read == [0, 1, 2, 3]


def test_predict_raising_names_the_example_and_a_models_own_failure_stays():
    def predict(run, value):
        return run(value)["missing"]

    with pytest.raises(EvaluationError, match=r"predict\(\) on example 0 raised KeyError"):
        made([({}, 1)], predict=predict).predict(dict)

    def broken(feed):
        raise SessionError("run m.onnx: it failed")

    with pytest.raises(SessionError, match="it failed"):
        made([({}, 1)]).predict(broken)


def test_predictions_on_some_examples_are_scored_against_their_labels():
    evaluation = made([({}, index) for index in range(6)], predict=lambda _run, _value: 5)
    assert evaluation.metric([1, 4], [1, 4]) == 1.0
    assert evaluation.predict(dict, [0, 5]) == [5, 5]


def test_a_drop_of_exactly_the_budget_is_not_pushed_over_it_by_rounding():
    evaluation = made([({}, 1)] * 10_000)
    base = [1] * 9312 + [0] * 688
    drop, _ = evaluation.drop(evaluation.reference(base), [1] * 9262 + [0] * 738)
    assert drop == 0.005


def test_the_default_prediction_is_the_dict_of_outputs():
    outputs = {"y": np.ones(2)}
    assert made([({"x": np.zeros(1)}, 1)]).predict(lambda _feed: outputs) == [outputs]


def test_a_recorder_keeps_copies_of_the_first_feeds():
    feed = {"x": np.zeros(2)}
    recorder = Recorder(lambda given: {"y": given["x"]}, 1)
    recorder(feed)
    recorder({"x": np.ones(2)})
    feed["x"][:] = 9
    assert len(recorder.feeds) == len(recorder.outputs) == 1
    assert not recorder.feeds[0]["x"].any()
    assert not recorder.outputs[0]["y"].any()
