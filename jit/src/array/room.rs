//! How much memory there is. Systems promise more than they have, and end the process that uses it: so whoever wants
//! memory asks here first.
//!
//! The bound is what the machine has, swap included, or what the process' control group may use, whichever is less; read
//! once. On systems where neither can be read there is none but what the allocator refuses. What other processes use,
//! and what is allocated for anything but tensors, is not looked at: that changes from moment to moment, and a refusal
//! should not.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The most bytes that this process can have.
static MOST: LazyLock<usize> = LazyLock::new(|| {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    most(&read)
});

/// Why `bytes` more, beside those `live`, cannot be had, if so.
pub(super) fn refused(bytes: usize, live: usize) -> Option<String> {
    let most = *MOST;
    if live.saturating_add(bytes) <= most { None } else { Some(why(most, live)) }
}

#[cold]
fn why(most: usize, live: usize) -> String {
    format!("this process can have {most} bytes, and its tensors hold {live}")
}

/// The bound, from the files of Linux that `read` gives.
fn most(read: &dyn Fn(&Path) -> Option<String>) -> usize {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine(&text));
    let groups = read(Path::new("/proc/self/cgroup")).map_or_else(Vec::new, |text| limits(&text));
    let groups = groups.iter().filter_map(|path| read(path)?.trim().parse::<usize>().ok());
    groups.chain(machine).min().unwrap_or(usize::MAX)
}

/// Memory and swap of `/proc/meminfo`, in bytes.
fn machine(text: &str) -> Option<usize> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim_end().parse::<usize>().ok()?.checked_mul(1024)
    };
    Some(field("MemTotal:")?.saturating_add(field("SwapTotal:").unwrap_or(0)))
}

/// The files with the limits of the groups in `/proc/self/cgroup`, and of all that they are in. A limit that there is
/// none of is `max`, or more than any machine has.
fn limits(text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // Within a container the group may not be seen under its name, but then its limit is the root's.
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24000000 kB\nMemFree:          100000 kB\nSwapTotal:       1000000 kB\n";

    fn most_of(files: &[(&str, &str)]) -> usize {
        most(&|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_string()))
    }

    #[test]
    fn the_least_of_machine_and_groups_counts() {
        let machine = ("/proc/meminfo", MEMINFO);
        assert_eq!(most_of(&[machine]), 25_000_000 * 1024);
        assert_eq!(most_of(&[]), usize::MAX);
        assert_eq!(most_of(&[("/proc/meminfo", "MemTotal: many")]), usize::MAX);
        let group = ("/proc/self/cgroup", "0::/a/b\n");
        assert_eq!(most_of(&[machine, group, ("/sys/fs/cgroup/a/b/memory.max", "1000000\n")]), 1_000_000);
        assert_eq!(most_of(&[machine, group, ("/sys/fs/cgroup/a/memory.max", "2000000\n")]), 2_000_000);
        assert_eq!(most_of(&[machine, group, ("/sys/fs/cgroup/memory.max", "3000000\n")]), 3_000_000);
        assert_eq!(most_of(&[machine, group, ("/sys/fs/cgroup/a/b/memory.max", "max\n")]), 25_000_000 * 1024);
        let group = ("/proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/a\nnonsense\n");
        let limit = |path| [machine, group, (path, "4000000\n")];
        assert_eq!(most_of(&limit("/sys/fs/cgroup/memory/a/memory.limit_in_bytes")), 4_000_000);
        assert_eq!(most_of(&limit("/sys/fs/cgroup/memory/x/memory.limit_in_bytes")), 25_000_000 * 1024);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        assert_eq!(refused(0, 0), None);
        assert_eq!(refused(1 << 10, 0), None);
        // Nobody has so much.
        assert!(
            refused(1 << 60, 0).is_some() && refused(usize::MAX, usize::MAX).is_some() && refused(1, 1 << 60).is_some()
        );
        assert_eq!(why(10, 7), "this process can have 10 bytes, and its tensors hold 7");
    }
}
