import json
from typing import Any

import pytest

from proxy.demo.faults import FaultPlan
from proxy.demo.messages import Answer, ApiError, Inference, Load, Outcome, Request, Send, Steps
from proxy.demo.models import sample_images
from proxy.demo.options import DEFAULT_MODELS, POISON, DemoOptions, ModelSpec
from proxy.demo.service import Service
from proxy.demo.stats import Stats

COLD = DemoOptions(models=(*DEFAULT_MODELS, ModelSpec("cold", "sum", load_s=1.0)))


def service(options: DemoOptions = COLD) -> Service:
    return Service(options, Stats(), FaultPlan())


def decide(served: Service, method: str, target: str, body: object = None) -> Outcome:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return served.decide(Request(method.encode(), target.encode(), [], data))


def ask(served: Service, method: str, target: str, body: object = None) -> tuple[int, Any]:
    """Status and document, the computation included."""
    outcome = decide(served, method, target, body)
    if isinstance(outcome, Inference):
        outcome = outcome.run()
    assert isinstance(outcome, Answer)
    return outcome.status, json.loads(outcome.body)


def refusal(served: Service, target: str, body: object) -> tuple[int, str]:
    """Status and words of a computation that fails."""
    outcome = decide(served, "POST", target, body)
    assert isinstance(outcome, Inference)
    with pytest.raises(ApiError) as caught:
        outcome.run()
    return caught.value.status, str(caught.value)


def tensor(name: str, shape: list[int], data: list[Any], datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


# ----------------------------------------------------------------- KServe V1
def test_v1_predicts_each_instance_in_order() -> None:
    images = sample_images()[:3]
    status, reply = ask(
        service(), "POST", "/v1/models/digits:predict", {"instances": [image for image, _ in images]}
    )
    assert (status, reply) == (200, {"predictions": [label for _, label in images]})


def test_v1_counts_the_items_before_it_computes() -> None:
    outcome = decide(service(), "POST", "/v1/models/sum:predict", {"instances": [[1], [2], [3]]})
    assert isinstance(outcome, Inference)
    assert (outcome.model, outcome.items) == ("sum", 3)


def test_v1_objects_for_several_inputs() -> None:
    body = {"instances": [{"a": [1, 2], "b": [3, 4]}, {"b": [5], "a": [6]}]}
    _, reply = ask(service(), "POST", "/v1/models/pair:predict", body)
    assert reply == {"predictions": [{"total": [4, 6], "dot": 11}, {"total": [11], "dot": 30}]}


def test_v1_accepts_an_object_for_one_input() -> None:
    _, reply = ask(service(), "POST", "/v1/models/sum:predict", {"instances": [{"x": [1, 2]}]})
    assert reply == {"predictions": [3]}


@pytest.mark.parametrize("instances", [[{"a": [1]}], [[1]], [{"a": [1], "b": [1], "c": [1]}]])
def test_v1_refuses_instances_with_other_keys(instances: list[object]) -> None:
    status, words = refusal(service(), "/v1/models/pair:predict", {"instances": instances})
    assert status == 400
    assert words.startswith("Failed to process element: 0 ")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"instances": 5}', b"{}"])
def test_v1_refuses_what_is_not_a_request(body: bytes) -> None:
    status, reply = ask(service(), "POST", "/v1/models/sum:predict", body)
    assert status == 400
    assert reply["error"].startswith("Unrecognized request format")


def test_v1_model_status() -> None:
    assert ask(service(), "GET", "/v1/models/sum") == (200, {"name": "sum", "ready": True})
    assert ask(service(), "GET", "/v1/models/cold") == (200, {"name": "cold", "ready": False})


def test_the_model_list_speaks_two_protocols() -> None:
    _, reply = ask(service(), "GET", "/v1/models")
    assert reply["models"] == ["digits", "sum", "pair", "words", "cold"]
    assert {entry["id"] for entry in reply["data"]} == {*reply["models"], "trigram", "parrot"}


# ----------------------------------------------------------------- Open Inference
def test_v2_answers_flat_data_flat_with_every_output() -> None:
    body = {"id": "seven", "inputs": [tensor("a", [2, 2], [1, 2, 3, 4]), tensor("b", [2, 2], [5, 6, 7, 8])]}
    _, reply = ask(service(), "POST", "/v2/models/pair/infer", body)
    assert reply == {
        "model_name": "pair",
        "model_version": "1",
        "id": "seven",
        "outputs": [tensor("total", [2, 2], [6, 8, 10, 12]), tensor("dot", [2], [17, 53])],
    }


def test_v2_answers_nested_data_nested_and_only_the_outputs_asked_for() -> None:
    body = {
        "inputs": [tensor("b", [1, 2], [[5, 6]]), tensor("a", [1, 2], [[1, 2]])],
        "outputs": [{"name": "total"}],
    }
    _, reply = ask(service(), "POST", "/v2/models/pair/versions/1/infer", body)
    assert reply["outputs"] == [tensor("total", [1, 2], [[6, 8]])]
    assert "id" not in reply


def test_v2_strings() -> None:
    body = {"inputs": [tensor("text", [2], ["ab", "c"], "BYTES")]}
    _, reply = ask(service(), "POST", "/v2/models/words/infer", body)
    assert reply["outputs"] == [tensor("reversed", [2], ["ba", "c"], "BYTES")]


def test_v2_batch_of_none() -> None:
    body = {"inputs": [tensor("image", [0, 64], [], "FP32")]}
    _, reply = ask(service(), "POST", "/v2/models/digits/infer", body)
    assert [output["shape"] for output in reply["outputs"]] == [[0], [0, 10]]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "expected 1 inputs but got 0"),
        ([tensor("y", [1, 1], [1])], "unexpected inference input 'y'"),
        ([tensor("x", [1, 1], [1], "INT32")], "has data-type 'INT32', expected 'FP64'"),
        ([tensor("x", [1], [1])], "expected [-1, -1], got [1]"),
        ([tensor("x", [-1, 1], [1])], "unexpected shape"),
        ([tensor("x", [2, 2], [1, 2, 3])], "unable to parse 'data' of 'x'"),
        ([tensor("x", [2, 2], [[1, 2], [3]])], "unable to parse 'data' of 'x'"),
        ([tensor("x", [2, 2], [[1, 2]])], "unable to parse 'data' of 'x'"),
    ],
)
def test_v2_checks_the_inputs(inputs: list[object], words: str) -> None:
    status, reply = ask(service(), "POST", "/v2/models/sum/infer", {"inputs": inputs})
    assert status == 400
    assert words in reply["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": [tensor("a", [1, 1], [1]), tensor("a", [1, 1], [1])]}, "unexpected inference input 'a'"),
        (
            {"inputs": [tensor("a", [1, 1], [1]), tensor("b", [2, 1], [1, 2])]},
            "disagree about the batch size",
        ),
        (
            {"inputs": [tensor("a", [1, 1], [1]), tensor("b", [1, 1], [1])], "outputs": [{"name": "no"}]},
            "unexpected inference output 'no'",
        ),
        (b"{", "failed to parse the request JSON buffer"),
    ],
)
def test_v2_checks_the_rest_of_the_request(body: object, words: str) -> None:
    status, reply = ask(service(), "POST", "/v2/models/pair/infer", body)
    assert status == 400
    assert words in reply["error"]


def test_v2_metadata_config_and_health() -> None:
    served = service(DemoOptions(max_batch_size=8))
    assert ask(served, "GET", "/v2")[1]["extensions"] == ["model_repository"]
    assert ask(served, "GET", "/v2/health/live") == (200, {"live": True})
    assert ask(served, "GET", "/v2/health/ready") == (200, {"ready": True})
    assert ask(served, "GET", "/v2/models/digits")[1]["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": [-1, 64]}
    ]
    assert ask(served, "GET", "/v2/models/digits/config")[1]["max_batch_size"] == 8
    assert "max_batch_size" not in ask(service(), "GET", "/v2/models/digits/config")[1]


def test_v2_model_readiness() -> None:
    assert ask(service(), "GET", "/v2/models/sum/ready") == (200, {"name": "sum", "ready": True})
    assert ask(service(), "GET", "/v2/models/cold/ready")[0] == 400


# ----------------------------------------------------------------- what fails a batch
def test_poison_fails_the_batch_and_hides_its_place() -> None:
    body = {"instances": [[1], [POISON]]}
    assert refusal(service(), "/v1/models/sum:predict", body) == (500, "the computation failed")


def test_poison_may_give_a_hint() -> None:
    served = service(DemoOptions(poison_hint=True))
    body = {"instances": [[1], [POISON]]}
    assert refusal(served, "/v1/models/sum:predict", body) == (500, "the computation failed at item 1")


def test_a_bad_item_fails_the_batch_and_is_named() -> None:
    status, words = refusal(service(), "/v1/models/sum:predict", {"instances": [[1], "x"]})
    assert status == 400
    assert words.startswith("Failed to process element: 1 of the batch")


def test_batches_over_the_limit_are_refused() -> None:
    served = service(DemoOptions(max_batch_size=2))
    assert ask(served, "POST", "/v1/models/sum:predict", {"instances": [[1], [2]]})[0] == 200
    status, reply = ask(served, "POST", "/v1/models/sum:predict", {"instances": [[1], [2], [3]]})
    assert (status, reply) == (400, {"error": "inference request batch-size must be <= 2, got 3"})


# ----------------------------------------------------------------- repository
def test_index_shows_states() -> None:
    _, index = ask(service(), "POST", "/v2/repository/index")
    assert {entry["name"]: entry["state"] for entry in index}["cold"] == "UNAVAILABLE"


def test_load_is_for_the_server_to_wait_for() -> None:
    outcome = decide(service(), "POST", "/v2/repository/models/cold/load")
    assert isinstance(outcome, Load)
    assert outcome.model == "cold"


def test_an_unloaded_model_refuses_unless_it_loads_on_demand() -> None:
    body = {"instances": [[1]]}
    status, reply = ask(service(), "POST", "/v1/models/cold:predict", body)
    assert (status, reply) == (404, {"error": "Model 'cold' is not loaded"})
    patient = service(DemoOptions(models=COLD.models, load_on_demand=True))
    assert isinstance(decide(patient, "POST", "/v1/models/cold:predict", body), Inference)


def test_unload() -> None:
    served = service()
    assert ask(served, "POST", "/v2/repository/models/sum/unload") == (200, {})
    assert ask(served, "GET", "/v2/models/sum/ready")[0] == 400
    served.repository.slots["sum"].state = "LOADING"
    assert ask(served, "POST", "/v2/repository/models/sum/unload")[0] == 400


# ----------------------------------------------------------------- the rest
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/v1/models/none:predict", 404),
        ("POST", "/v2/models/none/infer", 404),
        ("POST", "/v2/repository/models/none/load", 404),
        ("POST", "/v2/models/sum/versions/9/infer", 404),
        ("GET", "/v1/models/sum:predict", 405),
        ("GET", "/nowhere", 404),
        ("POST", "/bytes/5", 404),
        ("GET", "/bytes/x", 404),
    ],
)
def test_what_does_not_exist(method: str, target: str, status: int) -> None:
    got, reply = ask(service(), method, target)
    assert got == status
    assert reply["error"]


def test_an_unknown_model_is_named() -> None:
    assert ask(service(), "POST", "/v1/models/none:predict")[1] == {"error": "Model 'none' not found"}


def test_health_is_text() -> None:
    outcome = decide(service(), "GET", "/health?deep=1")
    assert isinstance(outcome, Answer)
    assert (outcome.body, outcome.content_type) == (b"ok", b"text/plain")


def test_stats_and_reset() -> None:
    stats = Stats(open_connections=2, calls=5)
    served = Service(DemoOptions(), stats, FaultPlan())
    assert ask(served, "GET", "/demo/stats")[1]["calls"] == 5
    ask(served, "POST", "/demo/reset")
    assert (stats.calls, stats.open_connections) == (0, 2)


def test_faults_are_set_and_refused() -> None:
    plan = FaultPlan()
    served = Service(DemoOptions(), Stats(), plan)
    assert ask(served, "PUT", "/demo/faults", b"stall=1, garbage") == (200, {"faults": 2})
    assert [fault.name for fault in plan.faults] == ["stall", "garbage"]
    assert ask(served, "PUT", "/demo/faults", b"nonsense")[0] == 400
    assert ask(served, "PUT", "/demo/faults", b"") == (200, {"faults": 0})


def test_echo_shows_head_and_body() -> None:
    request = Request(b"POST", b"/echo", [(b"x-a", b"1"), (b"content-type", b"text/plain")], b"\x00body")
    outcome = service().decide(request)
    assert isinstance(outcome, Answer)
    assert outcome.render().endswith(
        b"Content-Type: text/plain\r\nContent-Length: 5\r\n"
        b"Demo-Seen: x-a: 1; content-type: text/plain\r\n\r\n\x00body"
    )


@pytest.mark.parametrize("query", ["", "?chunked"])
def test_bulk_has_the_length_asked_for(query: str) -> None:
    outcome = decide(service(), "GET", f"/bytes/200000{query}")
    assert isinstance(outcome, Steps)
    head, *pieces = [step.data for step in outcome.steps if isinstance(step, Send)]
    if query:
        assert b"Transfer-Encoding: chunked" in head
        assert pieces.pop() == b"0\r\n\r\n"
        pieces = [piece.partition(b"\r\n")[2][:-2] for piece in pieces]
    else:
        assert b"Content-Length: 200000" in head
    assert b"".join(pieces) == (bytes(range(256)) * 782)[:200000]
