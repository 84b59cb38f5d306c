// The request as others send it.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export const COPIES = {
  json: (text) => text,
  curl: (text, address) => `curl -s ${address}/v1/check -H 'Content-Type: application/json' -d ${quoted(text)}`,
  python: (text, address) => `import json
import urllib.request

request = json.loads(${JSON.stringify(text)})
asked = urllib.request.Request(
    "${address}/v1/check", json.dumps(request).encode(), {"Content-Type": "application/json"}
)
with urllib.request.urlopen(asked) as answer:
    print(json.load(answer)["summary"])
`,
};
