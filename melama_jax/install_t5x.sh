#!/bin/sh
# Installs T5X beside melama-jax, at the commits the bridge is tested with: sh install_t5x.sh [PYTHON]
#
# T5X and two of its libraries are on no registry, and what they ask for cannot be resolved beside today's optax. So what
# they need comes first, from the registry (the extra `t5x` of melama-jax), then they themselves without their wishes.
set -eu
python=${1:-python}
github=https://github.com

"$python" - <<'EOF' | xargs "$python" -m pip install
from importlib.metadata import requires

for requirement in requires("melama-jax") or []:
    name, _, condition = requirement.partition(";")
    if "t5x" in condition:
        print(name.strip())
EOF

"$python" -m pip install --no-deps \
  "t5x @ git+$github/google-research/t5x@cc342d419ec3e3e9c4bf1df33c82330cafdc1e16" \
  "airio @ git+$github/google/airio@69897df7d9a427b947a9f7bb4164c7782b43e601" \
  "jestimator @ git+$github/google-research/jestimator@326824a477feef6d92e6f44175000907a72899ca"
