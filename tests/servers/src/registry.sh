# Supervises one image registry. $1: its folder, $2: the program. The first line on standard input starts
# it; the end of standard input ends it.
dir=$1 program=$2
read -r _ || { rm -rf "$dir"; exit; }
"$program" serve "$dir/config.yml" </dev/null >>"$dir/registry.log" 2>&1 &
while read -r _; do :; done
kill -9 $!
wait
rm -rf "$dir"
