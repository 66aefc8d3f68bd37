"""Job Objects for every platform: a process started in a job, and all it starts, ends as one, and nothing else does."""

from ._run import CompletedProcess
from .errors import JobClosedError, JobError, SurvivorsError, UnsupportedError
from .guarantees import Backend, Guarantees, backends
from .job import Job
from .popen import Popen
from .process import ProcessHandle, children, kill_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._signatures import call, check_call, check_output, run
else:
    from ._run import call, check_call, check_output, run

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "CompletedProcess",
    "Guarantees",
    "Job",
    "JobClosedError",
    "JobError",
    "Popen",
    "ProcessHandle",
    "SurvivorsError",
    "UnsupportedError",
    "backends",
    "call",
    "check_call",
    "check_output",
    "children",
    "kill_tree",
    "run",
]
