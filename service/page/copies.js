// The request as others send it; a key is left to the shell that sends it.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
/** What one argument of a command may be; Linux takes 128 KiB. */
const LONGEST = 100_000;

function curl(text, address, key) {
  const bearer = key ? ` -H "Authorization: Bearer $GRADCHECKD_KEY"` : "";
  const command = `curl -s ${address}/v1/check -H 'Content-Type: application/json'${bearer}`;
  return text.length < LONGEST ? `${command} -d ${quoted(text)}` : `${command} --data-binary @- <<'JSON'\n${text}\nJSON\n`;
}

function python(text, address, key) {
  const bearer = key ? `, "Authorization": f"Bearer {os.environ['GRADCHECKD_KEY']}"` : "";
  return `import json
${key ? "import os\n" : ""}import urllib.request

request = json.loads(${JSON.stringify(text)})
headers = {"Content-Type": "application/json"${bearer}}
asked = urllib.request.Request("${address}/v1/check", json.dumps(request).encode(), headers)
with urllib.request.urlopen(asked) as answer:
    print(json.load(answer)["summary"])
`;
}

export const COPIES = { json: (text) => text, curl, python };
