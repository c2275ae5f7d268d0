import pytest

from proxy.demo.models import KINDS, Digits, ItemError, Pair, PoisonedItem, Sum, Words, sample_images
from proxy.demo.options import POISON


def test_the_classifier_reads_real_digits() -> None:
    samples = sample_images()
    labels = Digits().compute({"image": [image for image, _ in samples]})["label"]
    right = sum(label == truth for label, (_, truth) in zip(labels, samples, strict=True))
    assert right >= 0.98 * len(samples) > 100


def test_an_item_has_the_same_answer_in_every_batch() -> None:
    images = [image for image, _ in sample_images()[:20]]
    together = Digits().compute({"image": images})
    for index, image in enumerate(images):
        alone = Digits().compute({"image": [image]})
        assert alone == {name: [column[index]] for name, column in together.items()}


def test_scores_and_label_agree() -> None:
    outputs = Digits().compute({"image": [sample_images()[3][0]]})
    assert len(outputs["scores"][0]) == 10
    assert outputs["label"] == [outputs["scores"][0].index(max(outputs["scores"][0]))]


def test_sums_rows_of_any_length() -> None:
    assert Sum().compute({"x": [[1, 2.5], [], [7]]}) == {"sum": [3.5, 0.0, 7.0]}


def test_pair_has_two_inputs_and_two_outputs() -> None:
    outputs = Pair().compute({"a": [[1, 2], [3]], "b": [[10, 20], [4]]})
    assert outputs == {"total": [[11.0, 22.0], [7.0]], "dot": [50.0, 12.0]}


def test_words_are_reversed() -> None:
    assert Words().compute({"text": ["abc", "", "äß"]}) == {"reversed": ["cba", "", "ßä"]}


@pytest.mark.parametrize(
    ("model", "columns", "index"),
    [
        (Digits(), {"image": [[0] * 64, [0] * 63]}, 1),
        (Digits(), {"image": [[0] * 63 + ["x"]]}, 0),
        (Digits(), {"image": [[10**400] * 64]}, 0),
        (Sum(), {"x": [[1], "text"]}, 1),
        (Sum(), {"x": [[1], [1], [None]]}, 2),
        (Sum(), {"x": [[1e308] * 10]}, 0),
        (Pair(), {"a": [[1, 2]], "b": [[1]]}, 0),
        (Pair(), {"a": [[1], [{}]], "b": [[1], [1]]}, 1),
        (Words(), {"text": ["a", 5]}, 1),
    ],
)
def test_a_bad_item_is_named_by_its_index(model: Sum, columns: dict[str, list[object]], index: int) -> None:
    with pytest.raises(ItemError) as caught:
        model.compute(columns)
    assert caught.value.index == index
    assert not isinstance(caught.value, PoisonedItem)


def test_a_poisoned_item_is_told_apart() -> None:
    with pytest.raises(PoisonedItem) as caught:
        Sum().compute({"x": [[1], [POISON, 2], [3]]})
    assert caught.value.index == 1


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_tensor_has_a_batch_dimension(kind: type[Sum]) -> None:
    assert all(tensor.shape[0] == -1 for tensor in kind.inputs + kind.outputs)
