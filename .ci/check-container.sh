# Runs beside the container, URL set: the reference example must pass, and a planted bug must not.
# And the image is small enough to be pulled often; torch is most of it.
size=$(docker image inspect -f '{{.Size}}' "${CTR_TAG:-gradcheckd:test}")
[ "$size" -lt 1200000000 ] || { echo "the image has $size bytes, 1.2 GB are allowed"; exit 1; }
python3 - "$URL" <<'PYTHON'
import json, sys, urllib.request
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
PYTHON
