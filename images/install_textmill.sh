#!/bin/sh
# Second build stage: textmill itself and the bill of materials, laid out under /own as they go into /opt/textmill.
set -eu
python=/opt/textmill/bin/python
python3 -m pip --disable-pip-version-check --no-cache-dir --quiet --python "$python" \
  install --no-index --no-deps --no-compile --prefix /own "$(
    python3 -m pip --disable-pip-version-check --quiet wheel --no-deps --no-build-isolation --wheel-dir /wheel . &&
      echo /wheel/*.whl
  )"
"$python" -m compileall -qq --invalidation-mode unchecked-hash /own/lib
"$python" tools/sbom.py "$1" /own/lib/python3*/site-packages >/own/sbom.cdx.json
