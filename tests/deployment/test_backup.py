"""The copy of a database of jobs that the documents make is one, while jobs are written."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from service.jobs.database import JobDatabase
from service.jobs.job import NewJob
from service.jobs.records import JobRecords
from tests.document_text import DOCS, find_blocks, read_section


def count_jobs(path: Path) -> int:
    database = JobDatabase(f"sqlite:///{path}", 3600)
    try:
        return JobRecords(database).count_jobs().open_count
    finally:
        database.close()


def test_a_copy_has_the_jobs_of_a_database_in_use(tmp_path: Path) -> None:
    (command,) = [
        block
        for block in find_blocks(read_section(DOCS / "operations.md", "Jobs in production"), "sh")
        if "backup" in block
    ]
    for folder in ("data", "backup"):
        (tmp_path / folder).mkdir()
        command = command.replace(f"/{folder}/", f"{tmp_path}/{folder}/")
    database = JobDatabase(f"sqlite:///{tmp_path}/data/jobs.db", 3600)
    records = JobRecords(database)
    for number in range(3):
        records.submit(NewJob("", "check", "application/json", b"{}", str(number)))
    subprocess.run(["bash", "-c", re.sub("^python ", f"{sys.executable} ", command)], check=True)
    shutil.copy(tmp_path / "data" / "jobs.db", tmp_path / "copied.db")
    assert count_jobs(tmp_path / "backup" / "jobs.db") == 3
    assert count_jobs(tmp_path / "copied.db") == 0, "they are in the log beside the file"
    database.close()
