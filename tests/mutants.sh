#!/usr/bin/env bash
# For `make mutants`: tests/mutants.sh MODULE..., each as scoring/statistics. Works on a copy, so that an interrupt
# leaves no mutant behind; the sessions stay in results/mutants.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=$PWD/.venv/bin
sessions=$PWD/results/mutants
mkdir -p "$sessions"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents --no-dereference --target-directory "$copy"
cd "$copy"
for module in "$@"; do
    tests=tests/unit/test_$(basename "$module").py
    [ -f "scripts/shardmark/$module.py" ] && [ -f "$tests" ] || {
        echo "$module: there is no scripts/shardmark/$module.py, or no $tests" >&2
        exit 1
    }
    session=$sessions/${module//\//-}.sqlite
    cat > mutants.toml <<TOML
[cosmic-ray]
module-path = "scripts/shardmark/$module.py"
timeout = 120.0
excluded-modules = []
test-command = "$venv/python -m pytest -q -n 0 -x -p no:cacheprovider $tests"
distributor.name = "local"
TOML
    rm -f "$session"
    "$venv/cosmic-ray" init mutants.toml "$session"
    "$venv/cosmic-ray" baseline mutants.toml # the tests pass before anything is changed
    "$venv/cosmic-ray" exec mutants.toml "$session"
    echo "== $module: what no test noticed"
    "$venv/cr-report" --surviving-only --show-diff "$session"
done
