# git.sh FOLDER...: git in a repository of many files, in each folder in turns.
# Prints what was done, where, and nanoseconds.
cp -r /workspace/git /tmp/git
git() { LD_LIBRARY_PATH=/tmp/git /tmp/git/ld.so /tmp/git/git -c safe.directory='*' "$@"; }
forget() { sync; echo 3 >/proc/sys/vm/drop_caches; }
took() {
	what=$1 where=$2 begin=$(date +%s%N)
	shift 2
	git -C "$where/repo" "$@" >/dev/null
	echo "$what $where $(($(date +%s%N) - begin))"
}
mkdir -p /root/w && tar -C /root/w -xf /workspace/repo.tar
for where; do git -C "$where/repo" status >/dev/null; done
for _ in 1 2 3; do
	for where; do
		forget
		took first "$where" status
		took again "$where" status
		took again "$where" status
	done
done
for where; do
	mkdir "$where/repo/new"
	(cd "$where/repo/new" && seq 500 | split -l 1 -a 3 - n)
	took add "$where" add new
done
