//! The share of the machine that this agent's control group may have: the group itself and all those above it, as far
//! as they can be seen. Both versions of control groups are read; a controller is in one of them.
//!
//! A service of systemd has a group of its own. What an operator allows that one is a limit of the agent and of nothing
//! else on the machine, so it is no share of the machine and is left out.
//!
//! Source: Linux, `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/memory.rst`, `scheduler/sched-bwc.rst`;
//! proc_pid_mountinfo(5); systemd.resource-control(5).

use std::path::{Path, PathBuf};

use wire::sample::Usage;

/// What the groups allow. Where none of them says anything, nothing is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The tightest limit, and as much of it in use as cannot be had any more, whichever group is in the way. What the
    /// kernel would give back at once (inactive pages of files) counts as free.
    pub memory: Option<Usage>,
    /// Time of so many cores at most.
    pub cores: Option<f64>,
}

/// Reads what holds for the process whose folder of `/proc` this is, e.g. `/proc/self`.
pub fn look(process: &Path) -> Share {
    let read = |name: &str| std::fs::read_to_string(process.join(name)).unwrap_or_default();
    let (groups, mounts) = (read("cgroup"), read("mountinfo"));
    let memory = levels(&groups, &mounts, "memory");
    let cpu = levels(&groups, &mounts, "cpu");
    Share {
        memory: tightest(memory.iter().filter_map(Level::memory)),
        cores: least(cpu.iter().filter_map(Level::cores)),
    }
}

/// Limit and use of the tightest of several groups, each inside of the next.
fn tightest(groups: impl Iterator<Item = Usage>) -> Option<Usage> {
    let (mut total, mut free) = (None::<u64>, u64::MAX);
    for Usage { used_bytes, total_bytes } in groups {
        total = Some(total.map_or(total_bytes, |least| least.min(total_bytes)));
        free = free.min(total_bytes.saturating_sub(used_bytes));
    }
    total.map(|total_bytes| Usage { used_bytes: total_bytes.saturating_sub(free), total_bytes })
}

fn least(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    numbers.reduce(f64::min)
}

/// One group's folder.
#[derive(Debug)]
enum Level {
    One(PathBuf),
    Two(PathBuf),
}

impl Level {
    /// Its limit and its use; none without a limit.
    fn memory(&self) -> Option<Usage> {
        let (folder, limits, used, idle): (_, &[&str], _, _) = match self {
            // A group over `high` is not given more, but slowed down: for whoever is in it that is the end of it.
            Level::Two(folder) => (folder, &["memory.max", "memory.high"], "memory.current", "inactive_file"),
            Level::One(folder) => (folder, &["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive_file"),
        };
        let total_bytes = limits.iter().filter_map(|name| number(&folder.join(name))).min()?;
        let statistics = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let idle = statistics.lines().find_map(|line| line.strip_prefix(idle)?.trim().parse().ok()).unwrap_or(0);
        let used_bytes = number(&folder.join(used))?.saturating_sub(idle).min(total_bytes);
        Some(Usage { used_bytes, total_bytes })
    }

    /// How many cores' time it may have; none without a limit.
    fn cores(&self) -> Option<f64> {
        let (quota, period) = match self {
            Level::Two(folder) => {
                let said = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
                let (quota, period) = said.trim().split_once(' ')?;
                (quota.parse().ok()?, period.parse().ok()?)
            }
            Level::One(folder) => {
                (number(&folder.join("cpu.cfs_quota_us"))?, number(&folder.join("cpu.cfs_period_us"))?)
            }
        };
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    }
}

/// A file's only number. Not those that say that there is no limit: `max`, and -1.
fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The folders of the group that a process is in and of those above it, for one controller, innermost first.
fn levels(groups: &str, mounts: &str, controller: &str) -> Vec<Level> {
    // What version 1 has taken is not in version 2.
    let one = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    });
    let two = || groups.lines().find_map(|line| line.strip_prefix("0::"));
    let found = match one {
        Some(path) => mounts.lines().filter_map(Mount::read).find_map(|mount| {
            let has = mount.kind == "cgroup" && mount.options.split(',').any(|option| option == controller);
            Some(folders(mount.holds(path).filter(|_| has)?, &mount.at).map(Level::One).collect())
        }),
        None => two().and_then(|path| {
            mounts.lines().filter_map(Mount::read).find_map(|mount| {
                let has = mount.kind == "cgroup2";
                Some(folders(mount.holds(path).filter(|_| has)?, &mount.at).map(Level::Two).collect())
            })
        }),
    };
    found.unwrap_or_default()
}

/// From the innermost folder up to where the tree is mounted, without those of the agent's own service. Where the tree
/// is mounted at is no service's, whatever its name: in a container that is the container's own group.
fn folders(innermost: PathBuf, mounted: &Path) -> impl Iterator<Item = PathBuf> {
    let mut levels: Vec<PathBuf> = innermost.ancestors().map(Path::to_path_buf).collect();
    levels.retain(|level| level.starts_with(mounted));
    let is_own = |level: &PathBuf| level != mounted && level.extension().is_some_and(|end| end == "service");
    let own = levels.iter().take_while(|level| is_own(level)).count();
    levels.into_iter().skip(own)
}

/// One line of `mountinfo`.
struct Mount<'a> {
    /// What of the tree is mounted.
    root: PathBuf,
    at: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw`
    fn read(line: &'a str) -> Option<Mount<'a>> {
        let (before, after) = line.split_once(" - ")?;
        let mut words = before.split(' ').skip(3);
        let (root, at) = (words.next()?, words.next()?);
        let mut words = after.split(' ');
        let (kind, options) = (words.next()?, words.nth(1)?);
        Some(Mount { root: unescaped(root), at: unescaped(at), kind, options })
    }

    /// Where a group of this path is to be found, if it is below what is mounted.
    fn holds(&self, path: &str) -> Option<PathBuf> {
        let inside = Path::new(path).strip_prefix(&self.root).ok()?;
        // A path that leads out of the namespace leads out of what can be seen.
        let is_inside = inside.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        is_inside.then(|| self.at.join(inside))
    }
}

/// The kernel writes blanks, line ends and backslashes as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(escapes.iter().fold(text.to_owned(), |text, (octal, letter)| text.replace(octal, letter)))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A process's folder, and a tree of groups beside it.
    struct Made(TempDir);

    impl Made {
        /// In `group` of version 2, of which `root` is mounted.
        fn two(group: &str, root: &str) -> Made {
            let made = Made(tempfile::tempdir().expect("a folder"));
            let at = made.0.path().join("tree");
            made.write("cgroup", &format!("0::{group}\n"));
            made.write(
                "mountinfo",
                &format!(
                    "22 28 0:20 / /proc rw - proc proc rw\n31 23 0:28 {root} {} rw,relatime shared:9 - cgroup2 cgroup2 rw\n",
                    at.display()
                ),
            );
            made
        }

        /// In these groups of version 1, and somewhere in an empty tree of version 2.
        fn one(memory: &str, cpu: &str) -> Made {
            let made = Made(tempfile::tempdir().expect("a folder"));
            made.write("cgroup", &format!("9:cpu,cpuacct:{cpu}\n4:memory:{memory}\n1:name=systemd:/x\n0::/x\n"));
            let line = |name: &str, options: &str| {
                format!("32 31 0:29 / {} rw - cgroup cgroup rw,{options}\n", made.0.path().join(name).display())
            };
            made.write("mountinfo", &[line("cpu", "cpu,cpuacct"), line("memory", "memory")].concat());
            made
        }

        fn write(&self, file: &str, text: &str) {
            let file = self.0.path().join(file);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, text).expect("written");
        }

        fn memory(&self, group: &str, max: &str, high: &str, current: u64, inactive: u64) {
            self.write(&format!("tree{group}/memory.max"), &format!("{max}\n"));
            self.write(&format!("tree{group}/memory.high"), &format!("{high}\n"));
            self.write(&format!("tree{group}/memory.current"), &format!("{current}\n"));
            self.write(
                &format!("tree{group}/memory.stat"),
                &format!("anon 4096\ninactive_anon 1\ninactive_file {inactive}\nactive_file 77\n"),
            );
        }

        fn look(&self) -> Share {
            look(self.0.path())
        }
    }

    fn usage(used: u64, total: u64) -> Option<Usage> {
        Some(Usage { used_bytes: used * MIB, total_bytes: total * MIB })
    }

    fn bytes(mib: u64) -> String {
        (mib * MIB).to_string()
    }

    #[test]
    fn a_service_s_own_limit_is_the_agent_s_and_what_is_above_it_is_the_machine_s_share() {
        let made = Made::two("/system.slice/viworks-agent.service", "/");
        // The root of all has no such files.
        made.memory("/system.slice", "max", "max", 900 * MIB, 0);
        made.memory("/system.slice/viworks-agent.service", &bytes(256), &bytes(128), 100 * MIB, 36 * MIB);
        made.write("tree/system.slice/viworks-agent.service/cpu.max", "20000 100000\n");
        assert_eq!(made.look(), Share::default(), "others on the machine have all of it");
        made.memory("/system.slice", &bytes(1_024), "max", 900 * MIB, 100 * MIB);
        made.write("tree/system.slice/cpu.max", "200000 100000\n");
        assert_eq!(made.look(), Share { memory: usage(800, 1_024), cores: Some(2.0) });
        made.memory("/system.slice", &bytes(1_024), &bytes(960), 900 * MIB, 100 * MIB);
        assert_eq!(made.look().memory, usage(800, 960), "what is slowed down beyond is the limit");
    }

    #[test]
    fn only_the_innermost_services_are_the_agent_s_own() {
        for (group, limited, is_seen) in [
            // One of a user's own services: the limit of that user is not one of the agent.
            ("/user.slice/user@7.service/app.slice/a.service", "/user.slice/user@7.service", true),
            ("/user.slice/user@7.service/app.slice/a.service", "/user.slice/user@7.service/app.slice/a.service", false),
            ("/system.slice/a.service/b.service", "/system.slice/a.service", false),
            ("/machine.slice/libpod-1.scope", "/machine.slice/libpod-1.scope", true),
            ("/docker/1", "/docker/1", true),
            ("/system.slice/pod.service/libpod-payload-1", "/system.slice/pod.service/libpod-payload-1", true),
            // In a namespace of its own, with a systemd of its own or without.
            ("/", "", true),
            ("/system.slice/a.service", "", true),
        ] {
            let made = Made::two(group, "/");
            made.memory(limited, &bytes(64), "max", 8 * MIB, 0);
            made.write(&format!("tree{limited}/cpu.max"), "50000 100000\n");
            let seen = Share { memory: usage(8, 64), cores: Some(0.5) };
            assert_eq!(made.look(), if is_seen { seen } else { Share::default() }, "{group} {limited}");
        }
        // Version 1, too.
        let made = Made::one("/system.slice/a.service", "/system.slice/a.service");
        made.write("memory/system.slice/a.service/memory.limit_in_bytes", &bytes(64));
        made.write("memory/system.slice/a.service/memory.usage_in_bytes", &bytes(8));
        made.write("cpu/system.slice/a.service/cpu.cfs_quota_us", "50000\n");
        made.write("cpu/system.slice/a.service/cpu.cfs_period_us", "100000\n");
        assert_eq!(made.look(), Share::default());
    }

    #[test]
    fn the_tightest_on_the_way_up_counts_and_so_does_the_fullest() {
        let made = Made::two("/a/b/c", "/");
        made.memory("/a", &bytes(300), "max", 290 * MIB, 0);
        made.memory("/a/b", &bytes(200), "max", 50 * MIB, 0);
        made.memory("/a/b/c", "max", "max", 20 * MIB, 0);
        assert_eq!(made.look().memory, usage(190, 200), "10 MiB can still be had, because of the group above");
        made.memory("/a", &bytes(300), "max", 60 * MIB, 0);
        assert_eq!(made.look().memory, usage(50, 200));
        made.memory("/a", &bytes(100), "max", 60 * MIB, 0);
        assert_eq!(made.look().memory, usage(60, 100));
    }

    #[test]
    fn time_of_cores_is_a_quota_over_a_period() {
        let made = Made::two("/a/b", "/");
        made.write("tree/a/cpu.max", "250000 100000\n");
        made.write("tree/a/b/cpu.max", "max 100000\n");
        assert_eq!(made.look(), Share { memory: None, cores: Some(2.5) });
        made.write("tree/a/b/cpu.max", "20000 40000\n");
        assert_eq!(made.look().cores, Some(0.5));
    }

    #[test]
    fn version_one_is_read_where_it_has_the_controller() {
        let made = Made::one("/docker/1", "/quota");
        made.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        made.write("memory/memory.usage_in_bytes", &bytes(4_000));
        made.write("memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
        made.write("memory/docker/memory.usage_in_bytes", &bytes(800));
        made.write("memory/docker/1/memory.limit_in_bytes", &bytes(64));
        made.write("memory/docker/1/memory.usage_in_bytes", &bytes(48));
        made.write("memory/docker/1/memory.stat", &format!("inactive_file 1\ntotal_inactive_file {}\n", 16 * MIB));
        made.write("cpu/cpu.cfs_quota_us", "-1\n");
        made.write("cpu/cpu.cfs_period_us", "100000\n");
        made.write("cpu/quota/cpu.cfs_quota_us", "150000\n");
        made.write("cpu/quota/cpu.cfs_period_us", "100000\n");
        assert_eq!(made.look(), Share { memory: usage(32, 64), cores: Some(1.5) });
    }

    #[test]
    fn in_a_container_only_its_own_part_of_the_tree_is_mounted() {
        let made = Made::two("/docker/1/inner", "/docker/1");
        made.memory("", &bytes(64), "max", 8 * MIB, 0);
        made.memory("/inner", "max", "max", 8 * MIB, 0);
        assert_eq!(made.look().memory, usage(8, 64));
        // What is mounted is another part, or the process is outside of its own namespace.
        for group in ["/docker/2", "/../docker/1", "/docker/1/../2", "/"] {
            made.write("cgroup", &format!("0::{group}\n"));
            assert_eq!(made.look(), Share::default(), "{group}");
        }
    }

    #[test]
    fn without_limits_or_groups_nothing_is_said() {
        let made = Made::two("/a", "/");
        made.memory("/a", "max", "max", MIB, 0);
        made.write("tree/a/cpu.max", "max 100000\n");
        assert_eq!(made.look(), Share::default());
        for (groups, mounts) in [("", ""), ("0::/a\n", ""), ("0:/a", "31 23\n"), ("rubbish", "a - b"), ("::", " - ")] {
            made.write("cgroup", groups);
            made.write("mountinfo", mounts);
            assert_eq!(made.look(), Share::default(), "{groups} {mounts}");
        }
    }

    #[test]
    fn a_mount_s_place_may_have_blanks() {
        let line = "31 23 0:28 / /sys/a\\040b\\134 rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate";
        let mount = Mount::read(line).expect("a mount");
        assert_eq!((mount.at, mount.kind), (PathBuf::from("/sys/a b\\"), "cgroup2"));
    }
}
