"""OpenAI's embeddings and chat completions (JSON and server-sent events).

An embedding is feature hashing: each character trigram of the padded text adds ±1 to one of 64 places, and
the vector is scaled to length 1. Texts that share trigrams are near each other, which is what an embedding is
for; token arrays are hashed number by number. The chat model repeats what it was told, one word for each
token, as often as `max_tokens` asks: its answers are predictable, so a test can tell a lost token.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import msgspec

from proxy.demo.messages import (
    Answer,
    ApiError,
    Inference,
    Request,
    Send,
    Step,
    Steps,
    Wait,
    chunk,
    encode_json,
    json_answer,
    stream_head,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("CHAT_MODEL", "DIMENSIONS", "EMBEDDING_MODEL", "Pace", "chat", "embed", "embeddings")

CHAT_MODEL = "parrot"
EMBEDDING_MODEL = "trigram"
DIMENSIONS = 64
CREATED = 1_700_000_000
"""A fixed instant: equal requests get equal answers."""


class Pace(msgspec.Struct, frozen=True):
    """Seconds to the first token and between two tokens."""

    first_s: float
    token_s: float


class _EmbeddingsBody(msgspec.Struct):
    input: str | list[str | int | list[int]]
    model: str = EMBEDDING_MODEL
    encoding_format: Literal["float", "base64"] = "float"


class _Message(msgspec.Struct):
    content: str
    role: str = "user"


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _ChatBody(msgspec.Struct):
    messages: list[_Message]
    model: str = CHAT_MODEL
    stream: bool = False
    max_tokens: int | None = None
    stream_options: _StreamOptions = msgspec.field(default_factory=_StreamOptions)


_decode_embeddings = msgspec.json.Decoder(_EmbeddingsBody).decode
_decode_chat = msgspec.json.Decoder(_ChatBody).decode


def embed(item: str | list[int]) -> list[float]:
    """The unit vector of one text or one token array; a text without trigrams has the zero vector."""
    features: list[str] = list(map(str, item)) if isinstance(item, list) else _trigrams(item)
    vector = [0] * DIMENSIONS
    for feature in features:
        hashed = crc32(feature.encode())
        vector[hashed % DIMENSIONS] += 1 if hashed & 0x80000000 else -1
    length = math.sqrt(sum(place * place for place in vector)) or 1.0
    return [place / length for place in vector]


def embeddings(request: Request) -> Inference:
    """``POST /v1/embeddings``: one vector for each text or token array of `input`."""
    try:
        body = _decode_embeddings(request.body)
    except msgspec.DecodeError as error:
        raise ApiError(400, str(error), "openai") from None
    items = _items(body.input)

    def run() -> Answer:
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(embed(item), body.encoding_format)}
            for index, item in enumerate(items)
        ]
        tokens = sum(len(item) if isinstance(item, list) else len(item.split()) for item in items)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_answer({"object": "list", "data": data, "model": body.model, "usage": usage})

    return Inference(body.model, len(items), run)


def chat(request: Request, pace: Pace) -> Steps:
    """``POST /v1/chat/completions``: an event stream when `stream` is set, one JSON object otherwise."""
    try:
        body = _decode_chat(request.body)
    except msgspec.DecodeError as error:
        raise ApiError(400, str(error), "openai") from None
    words = body.messages[-1].content.split() if body.messages else []
    if not words:
        raise ApiError(400, "'messages' must end with some text", "openai")
    count = len(words) if body.max_tokens is None else body.max_tokens
    tokens = [words[i % len(words)] + " " for i in range(count)]
    usage = _usage(sum(len(message.content.split()) for message in body.messages), count)
    if body.stream:
        return Steps(_stream(request, body, tokens, usage, pace))
    return Steps(_whole(request, body, tokens, usage, pace))


def _trigrams(text: str) -> list[str]:
    padded = f" {text.lower()} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]


def _items(value: str | list[Any]) -> list[str | list[int]]:
    """A string is one item, and so is a flat array of tokens; a list holds items of one kind."""
    if isinstance(value, list) and len({type(item) for item in value}) > 1:
        raise ApiError(400, "'input' mixes texts and tokens", "openai")
    items = [value] if isinstance(value, str) or (value and isinstance(value[0], int)) else value
    if not all(items) or not items:
        raise ApiError(400, "'input' must not be empty", "openai")
    return items


def _encoded(vector: list[float], encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _whole(
    request: Request, body: _ChatBody, tokens: list[str], usage: dict[str, int], pace: Pace
) -> Iterator[Step]:
    yield Wait(pace.first_s + pace.token_s * len(tokens))
    message = {"role": "assistant", "content": "".join(tokens).rstrip()}
    reply = {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": CREATED,
        "model": body.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    yield Send(json_answer(reply).render(keep_alive=request.keep_alive))


def _stream(
    request: Request, body: _ChatBody, tokens: list[str], usage: dict[str, int], pace: Pace
) -> Iterator[Step]:
    chunked = request.version != "1.0"
    frame = chunk if chunked else bytes
    yield Wait(pace.first_s)
    yield Send(stream_head(b"text/event-stream", chunked=chunked, keep_alive=request.keep_alive))
    yield Send(frame(_event(body.model, {"role": "assistant", "content": ""})))
    for token in tokens:
        yield Send(frame(_event(body.model, {"content": token})))
        yield Wait(pace.token_s)
    yield Send(frame(_event(body.model, {}, finish="stop")))
    if body.stream_options.include_usage:
        yield Send(
            frame(b"data: %s\n\n" % encode_json({**_envelope(body.model), "choices": [], "usage": usage}))
        )
    yield Send(frame(b"data: [DONE]\n\n"))
    if chunked:
        yield Send(chunk(b""))


def _envelope(model: str) -> dict[str, object]:
    return {"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": CREATED, "model": model}


def _event(model: str, delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %s\n\n" % encode_json({**_envelope(model), "choices": [choice]})
