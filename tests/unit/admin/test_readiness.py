from __future__ import annotations

from proxy.admin.readiness import Check, readiness

GOOD = Check("upstream a", lambda: (True, "unused"))
BAD = Check("upstream b", lambda: (False, "no healthy endpoint"))


def test_all_checks_must_be_well() -> None:
    assert readiness([GOOD]) == (True, "ready\n", "[+] upstream a ok\nready\n")


def test_a_failing_check_says_why() -> None:
    assert readiness([GOOD, BAD]) == (
        False,
        "not ready\nupstream b: no healthy endpoint\n",
        "[+] upstream a ok\n[-] upstream b: no healthy endpoint\nnot ready\n",
    )


def test_nothing_to_ask_is_well() -> None:
    assert readiness([]).is_ready
