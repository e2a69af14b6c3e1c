#!/bin/sh
# First build stage: what the locks name, in the virtual environment /opt/textmill, which has no pip.
# usage: install_packages.sh LOCK...
set -eu
venv=/opt/textmill
wheels=$(mktemp -d)
pip() { python3 -m pip --disable-pip-version-check --no-cache-dir --quiet "$@"; }

# The locks are whole: nothing is looked up beside them. The build tools serve the few packages without a wheel.
pip install --require-hashes -r requirements/build.lock
for lock; do
  pip wheel --require-hashes --no-deps --no-build-isolation --wheel-dir "$wheels" -r "$lock"
done
python3 -m venv --without-pip "$venv"
pip --python "$venv/bin/python" install --no-index --no-deps --no-compile "$wheels"/*.whl
rm -rf "$wheels"

# Headers, stubs, symbols and the tests of the largest packages: what no running program reads.
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$packages/tensorflow/include" "$packages/pyarrow/include" "$packages/pyarrow/tests"
find "$packages/numpy" "$packages/scipy" -type d -name tests -prune -exec rm -rf {} +
find "$packages" -type f \( -name '*.pyi' -o -name '*.a' \) -delete
python3 tools/strip_symbols.py "$packages"

# A read-only root cannot take bytecode, and to compile TensorFlow at every start takes seconds. Templates among the
# packages are no Python; compileall says so and goes on.
"$venv/bin/python" -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$packages" || true
