set -e
# Runs beside the container, URL set: the reference example must pass, and a planted bug must not.
# And the image is small enough to be pulled often; torch is most of it.
size=$(docker image inspect -f '{{.Size}}' "${CTR_TAG:-gradcheckd:test}")
[ "$size" -lt 1200000000 ] || { echo "the image has $size bytes, 1.2 GB are allowed"; exit 1; }
python3 - "$URL" <<'PYTHON'
import json, sys, time, urllib.request
url = sys.argv[1].rstrip("/") + "/v1/check"
def post(body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=30))
body = json.load(open("examples/reference.json"))
report = post(body)
assert report["outcome"] == "pass", report["summary"]
assert report["loss"]["analytic"] == 2.3767862745225306, report["loss"]
body["candidate"] = {"w2": [0.22783599, 0.26189097, -0.09793547, -0.08370645 + 1e-4]}
assert post(body)["outcome"] == "fail"
print("the reference example passes, the planted bug fails")

# A job too: its runner stays, and takes its memory beside the attacks below.
request = urllib.request.Request(
    url, json.dumps(body).encode(), {"Content-Type": "application/json", "Prefer": "respond-async"}
)
with urllib.request.urlopen(request, timeout=30) as answer:
    assert answer.status == 202, answer.status
    job = json.load(answer)
began = time.monotonic()
while job["finished"] is None:
    assert time.monotonic() - began < 120, job
    time.sleep(0.2)
    job = json.load(urllib.request.urlopen(sys.argv[1].rstrip("/") + job["links"]["self"], timeout=30))
result = json.load(urllib.request.urlopen(sys.argv[1].rstrip("/") + job["links"]["result"], timeout=30))
assert (job["status"], result["outcome"]) == ("successful", "fail"), job
print("the planted bug fails as a job, too")
PYTHON

# Attackers below every limit, beside 36 clients who do not take their large answers: no worker is killed for memory.
.venv/bin/python - "$URL" <<'PYTHON'
import sys, time
from benchmarks import attack_clients, memory_attacks
attacks = {name: requests for name, requests, _ in memory_attacks.list_attacks()}
port = int(sys.argv[1].rsplit(":", 1)[1])
for names in (("conv2d, 100 x 100", "conv_transpose2d, 60 x 60"), ("the same, with a candidate", "layer_norm of 72,000")):
    requests = [request for name in names for request in attacks[name]]
    with attack_clients.run_attackers(port, requests, memory_attacks.SLOW_READERS) as attacking:
        # A slow machine takes longer over the large checks. An attack lasts until the service has computed one of them.
        began = time.monotonic()
        while time.monotonic() - began < 15 or not (attacking.statuses[200] or time.monotonic() - began > 120):
            time.sleep(0.5)
    print(f"beside {memory_attacks.SLOW_READERS} slow readers, {', '.join(names)}: {dict(attacking.statuses)}")
    assert attacking.statuses[200], "the attack was none"
PYTHON
container=$(docker ps --quiet --no-trunc --filter "ancestor=${CTR_TAG:-gradcheckd:test}")
peak=$(cat "/sys/fs/cgroup/memory/docker/$container/memory.max_usage_in_bytes" \
  "/sys/fs/cgroup/docker/$container/memory.peak" "/sys/fs/cgroup/system.slice/docker-$container.scope/memory.peak" \
  2>/dev/null || true)
booted=$(docker logs "$container" 2>&1 | grep -c 'Booting worker')
echo "the container took ${peak:-an unknown number of} bytes of memory at most; workers begun: $booted"
[ "$booted" = 2 ] || { echo "a worker was killed"; exit 1; }
