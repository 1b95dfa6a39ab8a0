# Supervises one systemd. $1: its folder; $2 and on: folders that both sides see. The first line on standard input
# starts it; the end of standard input ends everything.
#
# It is the first process of a process namespace of its own, in control groups of its own, over a copy of this
# machine's root that is thrown away; the units it has are those in its folder. When it is killed, the kernel ends
# all that it ran and drops every mount. Of this machine's kernel settings it can change none.
dir=$1
name=viworks-${dir##*/}
trees=$(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo)
if read -r _; then
  (
    for tree in $trees; do
      mkdir "$tree/$name" || exit 1
      # A set of processors is empty until it is filled.
      for file in cpuset.cpus cpuset.mems; do
        if [ -e "$tree/$file" ] && [ -e "$tree/tasks" ]; then cat "$tree/$file" >"$tree/$name/$file"; fi
      done
      echo "$BASHPID" >"$tree/$name/cgroup.procs" || exit 1
    done
    echo "$BASHPID" >"$dir/unshare"
    exec unshare --mount --pid --fork --kill-child=SIGKILL --cgroup --uts --ipc --propagation private /bin/bash -euc '
      dir=$1 layers=$1/layers root=$1/layers/root
      mkdir "$layers"
      mount -t tmpfs tmpfs "$layers"
      mkdir "$layers/upper" "$layers/work" "$root"
      mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root"
      mount -t proc proc "$root/proc"
      mount --bind "$root/proc/sys" "$root/proc/sys"
      mount -o remount,bind,ro "$root/proc/sys"
      mount -t sysfs sysfs "$root/sys"
      if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
      else
        mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
      fi
      mount --rbind /dev "$root/dev"
      mount -t tmpfs -o mode=755 tmpfs "$root/run"
      for shared in "$@"; do
        mkdir -p "$root$shared"
        mount --bind "$shared" "$root$shared"
      done
      exec env -i container=viworks PATH=/usr/bin:/usr/sbin:/bin:/sbin SYSTEMD_UNIT_PATH="$dir/units" \
        SYSTEMD_GENERATOR_PATH="$dir/none" SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$dir/none" \
        chroot "$root" /lib/systemd/systemd --system --unit=viworks.target --log-target=console --show-status=no
    ' manager "$@"
  ) </dev/null &
  while read -r _; do :; done
  kill -KILL $!
  wait 2>/dev/null
fi
# Control groups stay until somebody removes them, and they can be as soon as all processes are gone.
for tree in $trees; do
  for _ in {1..200}; do
    if [ ! -d "$tree/$name" ] || find "$tree/$name" -depth -type d -exec rmdir {} + 2>/dev/null; then break; fi
    sleep 0.05
  done
done
rm -rf "$dir"
