# Supervises one Redis. $1: its folder, $2: the server's program, $3: its port, then more
# of its settings. Every line on standard input starts
# it when it does not run; the end of standard input ends everything.
dir=$1 program=$2 port=$3 pid=
shift 3
while read -r _; do
  if [ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null; then
    "$program" --bind 127.0.0.1 --port "$port" --dir "$dir" --save '' --appendonly no --daemonize no "$@" \
      </dev/null >>"$dir/redis.log" 2>&1 &
    pid=$!
    echo "$pid" >"$dir/pid"
  fi
done
if [ -n "$pid" ]; then kill -9 "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; fi
rm -rf "$dir"
