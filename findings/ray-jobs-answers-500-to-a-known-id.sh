#!/bin/sh
# Ray's Jobs API answers 500 to a submission whose id it knows already, and to the deletion of a job that runs.
# Versions: ray==2.60.0.
# A good guess: 409, or any other status below 500, as for an unknown id (404) and for bad metadata (400); a client that sends a
#   submission again after a lost answer, under the same id, sees from the status that the first one has arrived.
# Behaviour: 500 with a traceback, so that whoever retries server errors never ends, though the job runs.
# Our guard: tests/api/test_survival_points.py::test_ray_does_what_it_was_asked_for_and_the_answer_is_lost
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "ray[default]==2.60.0"
cat > "$folder/program.py" <<'PROGRAM'
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


options = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "ray-client-server-port")
ports = {name: free_port() for name in options}
words = [f"--{name}={port}" for name, port in ports.items()] + ["--num-cpus=1", "--disable-usage-stats"]
command = [os.path.join(os.path.dirname(sys.executable), "ray"), "start", "--head", "--block", *words, f"--temp-dir={sys.argv[1]}"]
head = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def status(method, path, **body):
    url, data = f"http://127.0.0.1:{ports['dashboard-port']}/api/jobs/{path}", json.dumps(body).encode() if body else None
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


try:
    for number in range(1000):  # until the head takes jobs
        if status("POST", "", entrypoint="true", submission_id=f"first{number}") == 200:
            break
        time.sleep(0.5)
    print("a new id:", status("POST", "", entrypoint="sleep 1000", submission_id="one"))
    print("the same id:", status("POST", "", entrypoint="sleep 1000", submission_id="one"))
    print("its deletion, as it has not ended:", status("DELETE", "one"))
    print("an unknown id:", status("GET", "two"))
    print("metadata that is no text:", status("POST", "", entrypoint="true", metadata={"number": 1}))
finally:
    os.killpg(head.pid, signal.SIGTERM)
    head.wait()
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
a new id: 200
the same id: 500
its deletion, as it has not ended: 500
an unknown id: 404
metadata that is no text: 400
OUTPUT
(cd "$folder" && RAY_AUTH_MODE=disabled env/bin/python program.py "$folder/ray") > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
