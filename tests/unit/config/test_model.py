from __future__ import annotations

import pytest

from proxy.config.fields import Secret
from proxy.config.load import load_text
from proxy.config.model import Config, ModelConfig
from proxy.errors import ConfigError

HEAD = "version: 1\nupstreams: {m: {http: [http://a]}}\n"


def config(models: str) -> Config:
    return load_text(f"{HEAD}models: {models}", "f").config


def test_without_models_there_are_defaults() -> None:
    assert load_text(HEAD, "f").config.models == {"*": ModelConfig()}
    assert load_text(HEAD, "f").config.model_policy("any") == ModelConfig()
    assert config("{a: {}}").models == {"*": ModelConfig(), "a": ModelConfig()}


def test_what_is_unset_is_inherited_field_by_field() -> None:
    policy = config(
        "{resnet50: {batch: {mode: window}},"
        " '*': {batch: {max_wait: 5ms, items: {most: 300}}},"
        " 'resnet*': {batch: {items: {least: 30}, max_bytes: 1MiB}}}"
    ).model_policy
    special, family, other = policy("resnet50").batch, policy("resnet101").batch, policy("bert").batch
    assert (special.mode, family.mode, other.mode) == ("window", "adaptive", "adaptive")
    assert (special.items.least, family.items.least, other.items.least) == (30, 30, 25)
    assert (special.items.most, family.items.most, other.items.most) == (300, 300, 300)
    assert (special.max_wait, family.max_wait, other.max_wait) == (0.005, 0.005, 0.005)
    assert (special.max_bytes, family.max_bytes, other.max_bytes) == (1 << 20, 1 << 20, 8 << 20)


def test_a_value_that_equals_the_default_is_still_set() -> None:
    models = "{'*': {batch: {max_wait: 5ms}}, a: {batch: {max_wait: 50ms}}}"
    assert config(models).model_policy("a").batch.max_wait == 0.05


def test_what_contradicts_its_inheritance_stands_alone() -> None:
    models = "{'a*': {batch: {max_wait: 5ms, items: {least: 60}}}, '*b': {batch: {items: {start: 50}}}}"
    policy = config(models).model_policy("ab")
    assert (policy.batch.items.least, policy.batch.items.start) == (60, 100)  # a* is listed first: it wins
    assert policy.batch.max_wait == 0.005
    assert config(models).model_policy("b").batch.items.start == 50


def test_the_memory_holds_one_entry_for_each_set_of_globs() -> None:
    loaded = config("{'a*': {}}")
    policies = {id(loaded.model_policy(f"a{index}")) for index in range(100)}
    assert len(policies) == 1


@pytest.mark.parametrize("name", ["", "a/b", "ünïcode", "x" * 10_000])
def test_any_name_has_a_policy(name: str) -> None:
    assert config("{'*': {batch: {max_wait: 5ms}}}").model_policy(name).batch.max_wait == 0.005


def test_an_empty_admin_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="the token is empty"):
        load_text(f'{HEAD}server: {{admin: {{token: ""}}}}\n', "f")


def test_an_admin_token_is_kept_and_not_shown() -> None:
    token = load_text(f"{HEAD}server: {{admin: {{token: '${{env:T}}'}}}}\n", "f", environ={"T": "hush"})
    assert token.config.server.admin.token == Secret("hush")
    assert "hush" not in repr(token.config)
