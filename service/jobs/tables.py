"""The table of jobs."""

import json

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()
MAX_IDEMPOTENCY_KEY_LENGTH = 255
_MEDIA_TYPE_LENGTH = 64
_DIGEST_LENGTH = 64

JOBS = Table(
    "gradcheckd_jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("owner", String(_DIGEST_LENGTH), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("media_type", String(_MEDIA_TYPE_LENGTH), nullable=False),
    Column("body", LargeBinary),
    Column("digest", String(_DIGEST_LENGTH), nullable=False),
    Column("idempotency_key", String(MAX_IDEMPOTENCY_KEY_LENGTH)),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("work", BigInteger),
    Column("done", BigInteger, nullable=False, default=0),
    Column("total", BigInteger, nullable=False, default=0),
    Column("tensor", Text),
    Column("runner", String(255)),
    Column("attempt", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),
    Column("lease_ends", Double),
    Column("encoding", String(16)),
    Column("has_details", Boolean),
    Column("result", LargeBinary),
    Column("problem", Text),
    UniqueConstraint("owner", "idempotency_key", name="gradcheckd_jobs_idempotency"),
    Index("gradcheckd_jobs_queue", "status", "created"),
    Index("gradcheckd_jobs_owner", "owner", "created"),
    Index("gradcheckd_jobs_turns", "owner", "status", "runner", "work", "started"),
)
"""One row a job.

Times are seconds since 1970. A row keeps the body of its request until the job ends, and from then on the result or the
problem. `attempt` counts the runs: a runner whose lease was taken over cannot end the job of a later run. `crashes`
counts the runs that ended with their runner. `work` is the estimate of its multiply-adds; NULL without one.
"""


def write_name(name: str | None) -> str | None:
    """Return the name of a tensor as the table has it, as JSON text: PostgreSQL takes no character 0."""
    return None if name is None else json.dumps(name)


def read_name(text: str | None) -> str | None:
    """Return a name that `write_name` wrote."""
    return None if text is None else json.loads(text)


RUNNERS = Table(
    "gradcheckd_runners",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("seen", Double, nullable=False),
    Column("obstacle", Text),
)
"""One row a runner: the last time that it looked for jobs, and why it takes none now."""
