"""What is promised is said: backends(), guarantees, require=."""

import os
import sys

import pytest

import pyjob
from helpers.under_test import LADDER, STRICT

NAMES = (
    "inherited", "escape_proof", "dies_with_owner", "atomic_kill", "own_child", "assign", "named",
    "complete_list", "pinned",
)  # fmt: skip

# The contract's table; None: depends on the kernel or the place.
TABLE = {
    "job-object": (True, True, True, True, True, True, True, True, True),
    "cgroup": (True, True, True, None, True, True, True, True, None),
    "reaper": (True, True, True, False, False, False, False, None, None),
    "process-group": (True, False, False, sys.platform.startswith("linux"), True, False, False, False, None),
}


def test_the_ladder():
    assert [one.name for one in pyjob.backends()] == LADDER


@pytest.mark.skipif(not STRICT, reason="only where all is promised to be there")
def test_the_default_is_the_first_available():
    with pyjob.Job() as job:
        assert job.backend == next(one.name for one in pyjob.backends() if one.available)
        assert job.backend != "process-group" or not sys.platform.startswith("linux")


def test_who_is_missing_says_why_and_what_would_help():
    for one in pyjob.backends():
        assert one.available == (one.why == "")
        if not one.available:
            assert len(one.why) > 10


def test_the_table(backend):
    with backend.job() as job:
        for name, expected in zip(NAMES, TABLE[str(backend)], strict=True):
            got = getattr(job.guarantees, name)
            assert type(got) is bool
            if expected is not None:
                assert got is expected, f"{name} on {backend}"
            assert got == (name in job.guarantees) == (name in backend.guarantees)


@pytest.mark.parametrize("name", NAMES)
def test_require(backend, name):
    if backend.has(name):
        with backend.job(require=(name,)) as job:
            assert getattr(job.guarantees, name)
    else:
        with pytest.raises(pyjob.UnsupportedError, match=name):
            backend.job(require=(name,))


def test_require_picks_a_backend_that_has_it():
    for name in NAMES:
        having = [one for one in pyjob.backends() if one.available and name in one.guarantees]
        if sys.platform.startswith("linux"):
            having = [one for one in having if one.name != "process-group"]
        if having:
            with pyjob.Job(require=[name]) as job:
                assert job.backend == having[0].name
        else:
            with pytest.raises(pyjob.UnsupportedError):
                pyjob.Job(require=[name])


def test_require_and_keep_contradict(backend):
    with pytest.raises(ValueError):
        backend.job(require=("dies_with_owner",), kill_on_close=False)


@pytest.mark.parametrize(
    "bad, error",
    [("escape_proof", TypeError), (("nonsense",), ValueError), ((1,), TypeError), (1, TypeError), (None, TypeError)],
)
def test_bad_require(backend, bad, error):
    with pytest.raises(error):
        backend.job(require=bad)


def test_guarantees_are_a_value(backend):
    with backend.job() as one, backend.job() as two:
        assert isinstance(one.guarantees, pyjob.Guarantees)
        assert one.guarantees == two.guarantees == pyjob.Guarantees(list(one.guarantees))
        assert hash(one.guarantees) == hash(two.guarantees)
        assert one.guarantees != pyjob.Guarantees()
    assert all(isinstance(row, pyjob.Backend) for row in pyjob.backends())


def test_a_guarantee_cannot_be_written(backend):
    with backend.job() as job, pytest.raises(AttributeError):
        job.guarantees.escape_proof = True


def test_a_backend_of_another_platform():
    other = "cgroup" if os.name == "nt" else "job-object"
    with pytest.raises(pyjob.UnsupportedError):
        pyjob.Job(backend=other)


@pytest.mark.parametrize(
    "bad, error", [("", ValueError), ("nonsense", ValueError), (1, TypeError), (b"cgroup", TypeError)]
)
def test_an_unknown_backend(bad, error):
    with pytest.raises(error):
        pyjob.Job(backend=bad)


def test_the_job_takes_the_backend_asked_for(backend):
    with backend.job() as job:
        assert job.backend == backend


def test_how_a_program_is_started(backend, folder):
    """own_child: the caller is the parent, and os.waitpid() collects it."""
    script = "import os; print(os.getppid())"
    result = backend.run([sys.executable, "-S", "-c", script], capture_output=True, text=True)
    assert (int(result.stdout) == os.getpid()) == backend.has("own_child")
