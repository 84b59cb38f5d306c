"""`gradcheckd jobs` and `gradcheckd wait`."""

import json
from argparse import Namespace

from gradcheckd.command import progress_bar
from gradcheckd.command.check_commands import choose_text_form, connect, get_exit_status, render_report_page
from gradcheckd.command.output import write_text
from gradcheckd.job import Job, find_job, list_jobs
from gradcheckd.wire import JSON, load_json


def list_own_jobs(arguments: Namespace) -> int:
    """List the jobs of the caller, or cancel one."""
    with connect(arguments) as connection:
        jobs = [find_job(connection, arguments.cancel).cancel()] if arguments.cancel else list_jobs(connection)
    if arguments.format == "json":
        write_text(json.dumps({"jobs": [dict(job.raw) for job in jobs]}))
    else:
        write_text("\n".join(map(_describe_job, jobs)) or "No jobs.")
    return 0


def _describe_job(job: Job) -> str:
    progress = f"{job.progress.done:,} of {job.progress.total:,} evaluations" if job.progress.total else ""
    return f"{job.id}  {job.status:10}  {job.raw['created']}  {progress}".rstrip()


def wait_for_job(arguments: Namespace) -> int:
    """Wait for the end of a job, and write its report."""
    with connect(arguments) as connection:
        job = find_job(connection, arguments.job)
        with progress_bar.show_progress() as progress:
            job.wait_for_end(progress=progress)
        raw = load_json(connection.get(job.result_path, JSON))
        status = get_exit_status(raw)
        if text_media_type := choose_text_form(arguments):
            text = connection.get(job.result_path, text_media_type).decode()
        else:
            text = json.dumps(raw) if arguments.format == "json" else render_report_page(raw)
    write_text(text, arguments.output)
    return status
