"""Grid Engine's answers, read."""

from __future__ import annotations


def parse_qstat_jobid_xml(output: str, job_id: str) -> str | None:
    """The state letters of a job in what `qstat -xml` prints; None: it is not there.

    Raises:
        AllocationError: it is no XML.
    """
    from taskensemble.launch.schedulers import parse_qstat_xml

    return parse_qstat_xml(output).get(str(job_id))
