"""Which load of a model an answer came from: a token in every key, changed whenever the model may have.

Theory of operation ------------------- Nobody tells a proxy that the weights behind a name were replaced, but
some events leave no other safe reading:

* a load or unload of the model went through the proxy (whatever its outcome: it may have been done half);
* the backend could not be reached and then answered again: it was restarted, with whatever it found on its
  disk. Calls notice that of the upstream as a whole, probes of each of its endpoints, whether anybody calls
  or not; an endpoint that was not seen yet is no restarted one;
* the operator purges it.

Each of them gives the model (or the upstream, or all) a new random token, and every key digests it: what was
kept before can no longer be asked for, and an answer under way lands where nobody looks. Nothing has to be
searched or deleted; age and pressure take the unreachable entries away.

While a backend is away its answers stay reachable, because that is when ``stale_if_error`` is wanted; the
token changes with its first sign of life.

Tokens outlive the process in stores that do, since a restart of the proxy would otherwise forget that a model
had changed. A store is read (`adopt`) before any of its entries is used, and again from time to time, because
other processes that share it renew tokens too. A token that was renewed here and is not written there yet
(`unsaved`) wins over what is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("Generations",)

_MOST_MODELS = 4096
_ALL = "*"  # no upstream has this name


class Generations:
    """The tokens of all models; `new_token` makes a fresh one that no other process makes too."""

    __slots__ = ("_composed", "_is_alive", "_lost", "_new_token", "_tokens", "_unsaved")

    def __init__(self, new_token: Callable[[], bytes]) -> None:
        self._new_token = new_token
        self._tokens: dict[str, bytes] = {}
        self._composed: dict[tuple[str, str], bytes] = {}
        self._unsaved: set[str] = set()
        self._lost: set[str] = set()
        self._is_alive: dict[tuple[str, str], bool] = {}

    def of(self, upstream: str, model: str) -> bytes:
        """The token of `model` on `upstream`; equal as long as nothing happened to either."""
        token = self._composed.get((upstream, model))
        if token is None:
            tokens = self._tokens
            names = (_ALL, upstream, f"{upstream}/{model}")
            token = b"/".join([tokens.get(name, b"") for name in names])
            if len(self._composed) >= _MOST_MODELS:  # names come from clients
                self._composed.clear()
            self._composed[upstream, model] = token
        return token

    def renew(self, upstream: str, model: str = "") -> None:
        """The model, or every model of `upstream`, may be another one now."""
        name = f"{upstream}/{model}" if model else upstream
        if name not in self._tokens and len(self._tokens) >= _MOST_MODELS:
            name = upstream  # too many to tell apart: all of them start anew
        self._tokens[name] = self._new_token()
        self._unsaved.add(name)
        self._composed.clear()

    def renew_all(self) -> None:
        """Every model of every upstream may be another one now."""
        self.renew(_ALL)

    def lost(self, upstream: str) -> None:
        """`upstream` cannot be reached."""
        self._lost.add(upstream)

    def answered(self, upstream: str) -> None:
        """`upstream` gave a sign of life; if it had been lost, a new generation begins."""
        if self._lost and upstream in self._lost:
            self._lost.discard(upstream)
            self.renew(upstream)

    def seen(self, upstream: str, endpoint: str, *, is_alive: bool) -> None:
        """An `endpoint` of `upstream` was asked how it is; one that comes back begins a new generation."""
        place = (upstream, endpoint)
        was_alive = self._is_alive.get(place)
        if is_alive:
            self._is_alive[place] = True
            if was_alive is False:
                self.renew(upstream)
        elif was_alive:
            self._is_alive[place] = False

    def unsaved(self) -> dict[str, bytes]:
        """The tokens that were renewed here and are not known to be kept anywhere else."""
        return {name: self._tokens[name] for name in self._unsaved}

    def saved(self, tokens: Mapping[str, bytes]) -> None:
        """These tokens are kept now."""
        self._unsaved -= {name for name, token in tokens.items() if self._tokens.get(name) == token}

    def adopt(self, tokens: Mapping[str, bytes]) -> None:
        """Take over what is kept, by this process before or by others."""
        known = {name: token for name, token in tokens.items() if name not in self._unsaved}
        if not known.items() <= self._tokens.items():
            self._tokens |= known
            self._composed.clear()
