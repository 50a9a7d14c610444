#!/bin/sh
# The plugin `offline` of Material for MkDocs makes pages that load a script over HTTPS.
# Versions: mkdocs-material==9.8.2, mkdocs==1.6.1.
# A good guess: a site that is built for use offline loads nothing from elsewhere; fonts are off here, too.
# Behaviour: with the plugin, every page loads the script `iframe-worker/shim` from a content delivery network; without it,
#   none does.
# Our guard: tests/test_site.py::test_the_site_loads_nothing_from_elsewhere; docs_site/mkdocs.yml leaves the plugin out.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mkdocs-material==9.8.2 mkdocs==1.6.1
mkdir "$folder/docs"
echo "# A page" > "$folder/docs/index.md"
for plugins in "search" "search, offline"; do
    printf 'site_name: site\ntheme: {name: material, font: false}\nplugins: [%s]\nuse_directory_urls: false\n' "$plugins" \
        > "$folder/mkdocs.yml"
    (cd "$folder" && env/bin/mkdocs build --quiet --strict 2>/dev/null)
    echo "$plugins: $(grep -oE '<script[^>]* src="https?://[^"]*"' "$folder/site/index.html" | sed -E 's,.*//[^/]*/,,; s,"$,,')"
done > "$folder/seen"
cat > "$folder/expected" <<'OUTPUT'
search: 
search, offline: iframe-worker/shim
OUTPUT
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
