"""Load APIs of servers of generative models: Ollama, llama.cpp, vLLM; and of recorded traces."""

from __future__ import annotations

import pytest

from proxy.loading.control.base import ControlError
from proxy.loading.control.llamacpp import LlamaCppControl
from proxy.loading.control.ollama import OllamaControl
from proxy.loading.control.replay import ReplayControl
from proxy.loading.control.vllm import VllmControl
from tests.integration.loading.control_rig import READY, UNLOADED, fails, states
from tests.integration.loading.dialects import LlamaCpp, Ollama, Vllm, running


class TestOllama:
    async def test_reads_the_memory_in_use(self) -> None:
        async with running(Ollama("a")) as (http, _):
            assert await OllamaControl(http).load("a") == 800

    async def test_loads_an_embedder_by_embedding_nothing(self) -> None:
        server = Ollama("a")
        server.embedders = frozenset("a")
        async with running(server) as (http, _):
            await OllamaControl(http).load("a")
        assert "POST /api/embed" in server.asked

    async def test_waits_until_the_memory_is_free(self) -> None:
        server = Ollama("a")
        server.lingers = 3
        async with running(server) as (http, _):
            control = OllamaControl(http)
            await control.load("a")
            await control.unload("a")
        assert server.asked.count("GET /api/ps") == 5

    async def test_a_listing_that_fails_is_no_listing(self) -> None:
        server = Ollama("a")
        server.fail["GET /api/tags"] = (500, "disk gone")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="disk gone"):
                await OllamaControl(http).listing(())

    async def test_a_full_queue_is_no_verdict_on_the_model(self) -> None:
        server = Ollama("a")
        server.fail["POST /api/generate"] = (503, {"error": "server busy"})
        async with running(server) as (http, _):
            control = OllamaControl(http)
            assert (await fails(control, "a"))[0] == "unreachable"
            server.fail["POST /api/generate"] = (500, "no")
            with pytest.raises(ControlError, match="no"):
                await control.unload("a")

    async def test_a_model_that_left_at_once_has_no_size(self) -> None:
        server = Ollama("a")
        server.fail["GET /api/ps"] = (200, {"models": None})
        async with running(server) as (http, _):
            assert await OllamaControl(http).load("a") == 0

    def test_every_answer_is_an_answer(self) -> None:
        assert not OllamaControl(None).is_not_ready(404, b"not found")  # type: ignore[arg-type]  # asks nobody


class TestLlamaCpp:
    async def test_a_load_that_fails_is_seen(self) -> None:
        server = LlamaCpp("a")
        async with running(server) as (http, _):
            control = LlamaCppControl(http)
            server.fail["POST /models/load"] = (200, {"success": True})
            server.states["a"] = "failed"
            assert await fails(control, "a") == ("refused", "exit code 137")
            server.states.clear()
            assert "no longer lists" in (await fails(control, "a"))[1]

    async def test_a_full_router_is_out_of_memory(self) -> None:
        server = LlamaCpp("a")
        server.fail["POST /models/load"] = (500, "model limit reached, try again later")
        async with running(server) as (http, _):
            assert (await fails(LlamaCppControl(http), "a"))[0] == "memory"

    async def test_an_unload_that_fails(self) -> None:
        server = LlamaCpp("a")
        server.fail["POST /models/unload"] = (500, "stuck")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="stuck"):
                await LlamaCppControl(http).unload("a")

    def test_knows_a_cold_answer(self) -> None:
        control = LlamaCppControl(None)  # type: ignore[arg-type]  # asks nobody
        assert control.is_not_ready(400, b"model is not loaded")
        assert control.is_not_ready(503, b"Loading model")
        assert not control.is_not_ready(400, b"bad prompt")


class TestVllm:
    async def test_puts_the_base_model_to_sleep_and_wakes_it(self) -> None:
        server = Vllm()
        async with running(server) as (http, _):
            control = VllmControl(http, {})
            assert await states(control) == {"base": "ready"}
            await control.unload("base")
            assert await states(control) == {"base": "unloaded"}
            await control.load("base")
            assert await states(control) == {"base": "ready"}

    async def test_says_that_sleep_must_be_enabled(self) -> None:
        server = Vllm()
        server.fail["POST /sleep"] = (404, "")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="enable-sleep-mode"):
                await VllmControl(http, {}).unload("base")
            server.fail["POST /sleep"] = (500, "no")
            with pytest.raises(ControlError, match="no"):
                await VllmControl(http, {}).unload("base")

    async def test_failures(self) -> None:
        server = Vllm("a")
        server.fail |= {"POST /wake_up": (500, "no"), "POST /v1/unload_lora_adapter": (500, "no")}
        async with running(server) as (http, _):
            control = VllmControl(http, {"a": "/lora/a"})
            assert (await fails(control, "base"))[0] == "refused"
            with pytest.raises(ControlError, match="no"):
                await control.unload("a")

    def test_knows_a_cold_answer(self) -> None:
        control = VllmControl(None, {})  # type: ignore[arg-type]  # asks nobody
        assert control.is_not_ready(404, b"The model `a` does not exist.")
        assert not control.is_not_ready(404, b"Not Found")


class TestReplay:
    async def test_is_loaded_once_its_request_was_answered(self) -> None:
        warmed: list[str] = []

        async def warm(name: str) -> None:
            warmed.append(name)

        control = ReplayControl(warm)
        assert await control.listing(("a", "b")) == {"a": UNLOADED, "b": UNLOADED}
        await control.load("a")
        assert await control.listing(("a", "b")) == {"a": READY, "b": UNLOADED}
        assert warmed == ["a"]
        with pytest.raises(ControlError):
            await control.unload("a")
        assert control.is_not_ready(503, b"")
        assert not control.is_not_ready(500, b"")
