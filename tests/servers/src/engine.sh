# Supervises one container engine. $1: its folder. Every line on standard input starts dockerd; the end of
# standard input ends everything.
#
# The engine lives in a process and a mount namespace of its own, so that when the namespace's first
# process ends, the kernel ends dockerd, containerd, shims and containers, and drops every mount. /run is
# empty in there: no containerd of this machine's is found, and no socket is left behind.
dir=$1
parent=viworks-${dir##*/}
unshare --mount --pid --fork --mount-proc --propagation private /bin/bash -c '
  dir=$1 parent=$2
  mount -t tmpfs tmpfs /run || exit 1
  if [ -d /etc/docker ]; then mount -t tmpfs tmpfs /etc/docker || exit 1; fi
  while read -r _; do
    rm -f "$dir/pid"
    dockerd --config-file "$dir/daemon.json" --data-root "$dir/data" --exec-root "$dir/exec" \
      -H "unix://$dir/docker.sock" --pidfile "$dir/pid" --bridge=none --iptables=false \
      --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$parent" \
      </dev/null >>"$dir/dockerd.log" 2>&1 &
  done' engine "$dir" "$parent"
# All processes are gone. Control groups stay until somebody removes them.
for cgroup in /sys/fs/cgroup/"$parent" /sys/fs/cgroup/*/"$parent"; do
  if [ -d "$cgroup" ]; then find "$cgroup" -depth -type d -exec rmdir {} +; fi
done
rm -rf "$dir"
