"""Jobs nest: every Popen has a private job, inside job= if one is given."""

from helpers.tree import chain


def test_the_private_job_lies_inside_the_one_given(backend, tree):
    with backend.job() as job:
        family = tree(chain("top", "child"))
        program = job.popen(family.argv)
        family.ready()
        assert program.job is not job
        assert program.job.parent is job
        assert job.parent is None
        assert program.job.backend == job.backend == backend
        assert program.job.pids() == job.pids() == family.pids()
        job.kill()
        program.wait()


def test_without_a_job_it_stands_alone(backend, tree):
    family = tree(chain("top", "child"))
    with backend.popen(family.argv) as program:
        family.ready()
        assert program.job.parent is None
        assert program.job.pids() == family.pids()
        program.kill()
    family.assert_dead()


def test_popen_with_job_is_job_popen(backend, tree):
    import pyjob

    with backend.job() as job:
        family = tree(chain("top", "child"))
        program = pyjob.Popen(family.argv, job=job)
        family.ready()
        assert program.job.parent is job
        assert job.pids() == family.pids()
        job.kill()
        program.wait()


def test_the_outer_kill_ends_all_inner_ones(backend, tree):
    with backend.job() as job:
        families = [tree(chain("top", "child")) for _ in range(3)]
        programs = [job.popen(one.argv) for one in families]
        for one in families:
            one.ready()
        job.kill()
        for family, program in zip(families, programs, strict=True):
            family.assert_dead()
            program.wait()
            assert program.job.pids() == []


def test_closing_an_inner_one_leaves_the_outer_usable(backend, tree):
    with backend.job() as job:
        first = tree(chain("top", "child"))
        with job.popen(first.argv) as program:
            first.ready()
            program.kill()
        assert program.job.closed
        assert not job.closed
        second = tree(chain("top", "child"))
        program = job.popen(second.argv)
        second.ready()
        assert job.pids() == second.pids()
        job.kill()
        program.wait()


def test_a_closed_outer_one_has_ended_the_inner(backend, tree):
    job = backend.job()
    family = tree(chain("top", "child"))
    program = job.popen(family.argv)
    family.ready()
    job.close()
    family.assert_dead()
    assert program.wait() != 0
    assert program.poll() == program.returncode


def test_a_member_that_uses_pyjob_by_itself(backend, tree, folder):
    """The inner owner's job lies inside ours: its kill leaves our other members alone, ours ends everything."""
    import sys

    from helpers.procs import eventually

    inner = tree(chain("top", "child"))
    outer = tree(chain("top", "child"))
    script = f"""
import pyjob, time, os
job = pyjob.Job(backend={str(backend)!r})
program = job.popen({inner.argv!r})
while not os.path.exists({str(inner.folder / "top.json")!r}):
    time.sleep(0.01)
open({str(folder / "inner-ready")!r}, "w").close()
while not os.path.exists({str(folder / "kill")!r}):
    time.sleep(0.01)
job.kill()
program.wait()
open({str(folder / "killed")!r}, "w").close()
time.sleep(300)
"""
    with backend.job() as job:
        one = job.popen(outer.argv)
        two = job.popen([sys.executable, "-c", script])
        outer.ready()
        inner.ready()
        eventually((folder / "inner-ready").exists)
        if backend.has("escape_proof"):
            assert set(inner.pids()) <= set(job.pids())
        (folder / "kill").touch()
        eventually((folder / "killed").exists)
        inner.assert_dead()
        outer.assert_alive()
        job.kill()
        outer.assert_dead()
        one.wait()
        two.wait()
