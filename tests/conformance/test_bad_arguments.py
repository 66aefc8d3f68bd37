"""Bad arguments are refused before any system call, and nothing is lost."""

import os
import sys

import pytest

import pyjob

PIDS = [
    (0, ValueError), (-1, ValueError), (2**31 if os.name == "posix" else 2**32, ValueError), 
    (2**64, ValueError), (-(2**70), ValueError),
    (True, TypeError), (False, TypeError), (1.0, TypeError), ("1", TypeError),
    (None, TypeError), (b"1", TypeError), ([1], TypeError),
]  # fmt: skip


@pytest.mark.parametrize("pid, error", PIDS)
def test_pids(backend, pid, error):
    with backend.job() as job:
        for operation in (job.assign, job.__contains__, pyjob.ProcessHandle, pyjob.kill_tree):
            with pytest.raises(error):
                operation(pid)
        if pid is not None:  # None means the calling process there
            with pytest.raises(error):
                pyjob.children(pid)


def test_an_object_whose_pid_is_none(backend):
    class Unstarted:
        pid = None

    with backend.job() as job, pytest.raises(ValueError):
        job.assign(Unstarted())


SIGNALS = [
    (-1, ValueError),
    (10_000, ValueError),
    (2**70, ValueError),
    ("SIGTERM", TypeError),
    (1.0, TypeError),
    (True, TypeError),
    (None, TypeError),
]


@pytest.mark.parametrize("number, error", SIGNALS)
def test_signals(backend, number, error):
    with backend.job() as job, pytest.raises(error):
        job.send_signal(number)


def test_limits_are_reserved(backend):
    with pytest.raises((TypeError, ValueError)):
        backend.job(limits={})


def test_unknown_arguments(backend):
    with pytest.raises(TypeError):
        backend.job(nonsense=1)
    with pytest.raises(TypeError):
        pyjob.Job("name", True)


def test_a_job_that_is_none(backend):
    for bad in (object(), 1, "job"):
        with pytest.raises(TypeError):
            pyjob.Popen([sys.executable, "-S", "-c", ""], job=bad)


def test_a_job_and_another_backend(backend):
    others = [one.name for one in pyjob.backends() if one.name != backend]
    with backend.job() as job:
        for other in others:
            with pytest.raises(ValueError):
                pyjob.Popen([sys.executable, "-S", "-c", ""], job=job, backend=other)


def test_subclassing_and_weak_references(backend):
    import weakref

    class Mine(pyjob.Job):
        pass

    with Mine(backend=str(backend)) as job:
        assert isinstance(job, pyjob.Job)
        assert weakref.ref(job)() is job


def test_a_job_cannot_be_copied_or_pickled(backend):
    import copy
    import pickle

    with backend.job() as job:
        with pytest.raises(TypeError):
            pickle.dumps(job)
        with pytest.raises(TypeError):
            copy.copy(job)


def test_error_classes():
    for one in (pyjob.UnsupportedError, pyjob.JobClosedError, pyjob.SurvivorsError):
        assert issubclass(one, pyjob.JobError)
    assert issubclass(pyjob.JobError, OSError)
