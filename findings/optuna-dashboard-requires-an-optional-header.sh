#!/bin/sh
# The Optuna dashboard answers 500 to requests for its scripts that have no header Accept-Encoding, which HTTP lets clients omit.
# Versions: optuna-dashboard==0.21.0, optuna==5.0.0.
# A good guess: without the header the file is sent as it is (RFC 9110, section 12.5.3).
# Behaviour: the page itself and the API answer; every file below /static/ ends in a KeyError, so that the page stays empty behind
#   a proxy or in a client that leaves the header out.
# Our guard: tests/api/test_optuna_page.py::test_clients_need_not_name_an_encoding
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check optuna-dashboard==0.21.0 optuna==5.0.0
cat > "$folder/program.py" <<'PROGRAM'
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard

application = optuna_dashboard.wsgi(optuna.storages.InMemoryStorage())


def status(path, **headers):
    environ = {"PATH_INFO": path, **headers}
    setup_testing_defaults(environ)
    seen = []
    body = application(environ, lambda line, _headers, _error=None: seen.append(line))
    for _ in body:
        pass
    return seen[0]


for path in ("/dashboard", "/api/meta", "/static/bundle.js"):
    print(path, "|", status(path, HTTP_ACCEPT_ENCODING="identity"), "|", status(path))
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
/dashboard | 200 OK | 200 OK
/api/meta | 200 OK | 200 OK
/static/bundle.js | 200 OK | 500 Internal Server Error
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen" 2> "$folder/errors"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { cat "$folder/errors"; echo "the behaviour has changed: see the lines above" >&2; exit 1; }
