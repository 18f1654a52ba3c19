# npm.sh FOLDER...: npm ci of a project, in each folder in turns, from a cache
# that is on the machine's own disk. Prints what was done, where, and nanoseconds.
cp -r /workspace/programs /tmp/programs
cp -r /workspace/npm /workspace/cache /root/
npm() { LD_LIBRARY_PATH=/tmp/programs /tmp/programs/ld.so /tmp/programs/node /root/npm/bin/npm-cli.js "$@"; }
for where; do
	mkdir -p "$where/project"
	cp /workspace/project/package*.json /workspace/project/.npmrc "$where/project"
done
for _ in 1 2 3; do
	for where; do
		rm -rf "$where/project/node_modules"
		sync
		cd "$where/project" || exit 1
		begin=$(date +%s%N)
		npm ci --offline --ignore-scripts --no-audit --no-fund --cache /root/cache >/tmp/npm.log 2>&1 || { cat /tmp/npm.log; exit 1; }
		echo "ci $where $(($(date +%s%N) - begin))"
		cd /
	done
done
