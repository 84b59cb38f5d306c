FROM python:3.11-slim-bookworm AS build
# Address of an index with the CPU build of torch; empty where the default index has it.
ARG TORCH_INDEX=""
# requirements-cluster.txt brings what a dask cluster and PostgreSQL need too.
ARG REQUIREMENTS=requirements.txt
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements.txt requirements-cluster.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then \
      /opt/venv/bin/pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.txt)"; \
    fi \
 && /opt/venv/bin/pip install --requirement "$REQUIREMENTS" \
 # What serving never reads: headers, test suites, static libraries, the tools of packaging.
 && find /opt/venv -type d \( -name tests -o -name test -o -name include \) -path '*/site-packages/*' -prune -exec rm -rf {} + \
 && find /opt/venv -name '*.a' -delete

FROM python:3.11-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    HOST=0.0.0.0 PORT=8000
# So that all that may run at once fits into 1 GiB, hostile bodies and slow readers too. Each arena of the allocator keeps what was freed
# in it; threads are many. What is large is given back at once, and grows without being copied.
ENV WEB_CONCURRENCY=2 MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=1048576 \
    GRADCHECKD_MAX_PROCESSES=1 GRADCHECKD_JOB_PROCESSES=1 GRADCHECKD_MAX_RUNNING_JOBS=1 GRADCHECKD_JOB_IDLE_SECONDS=5 GRADCHECKD_MAX_CHECKS=1 GRADCHECKD_MAX_SMALL_CHECKS=1 GRADCHECKD_MAX_BYTES=100663296 \
    GRADCHECKD_MAX_BINARY_BYTES=29360128 GRADCHECKD_MAX_BUFFERED_BODY_BYTES=29360128 GRADCHECKD_MAX_ANSWER_BYTES=16777216
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin gradcheckd
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY schemas schemas
COPY service service
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health/ready\", timeout=4)"]
CMD ["gunicorn", "--config", "python:service.gunicorn.config", "service.app:create_app()"]
