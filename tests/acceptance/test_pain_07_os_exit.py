"""Pain 7. pytest-timeout 159: os._exit() leaves a fixture's server."""

import pytest

from helpers.tree import node


@pytest.mark.needs("dies_with_owner")
def test_a_fixtures_server(backend, owners, tree):
    family = tree(node("server", node("worker", ignore=True)))
    body = "server = pyjob.Popen(argument, backend=backend)"
    owner = owners(body, end="os._exit", backend=str(backend), in_thread=True, argument=family.argv)
    owner.ready()
    family.ready()
    owner.end()
    assert owner.wait() == 4
    family.assert_dead()
