#!/bin/sh
# Inside a Debian (lab/debian): builds debian/ there, checks it, installs it, and looks at what came.
#   tools/deb.sh FOLDER-FOR-THE-PACKAGES
set -eu
into=$(mkdir -p "$1" && cd "$1" && pwd)
export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
mkdir "$work/source"
tar -c --exclude=./.cache --exclude=./.venv --exclude=./.nox . | tar -x -C "$work/source"
cd "$work/source"
apt-get update -qq
apt-get install -qq --no-install-recommends dpkg-dev lintian >/dev/null
apt-get build-dep -qq --no-install-recommends ./ >/dev/null
dpkg-buildpackage --build=binary --no-sign >"$into/build.log" 2>&1 || { tail -30 "$into/build.log"; exit 1; }
cp ../*.deb "$into"
lintian --tag-display-limit 0 ../*.changes
apt-get install -qq --no-install-recommends ../*.deb >/dev/null
dpkg-query --show --showformat '${Package} ${Version}: ${Depends}\n' python3-saltext-kvmcluster
cd /
python3 -c 'import saltext_kvmcluster, saltext_kvmcluster.core.guest.domainxml as m; print(saltext_kvmcluster.__version__, m.__file__)'
ls /usr/share/saltext-kvmcluster/states/kvmcluster /usr/share/saltext-kvmcluster/wheels /usr/share/doc/python3-saltext-kvmcluster
apt-get purge -qq python3-saltext-kvmcluster >/dev/null
