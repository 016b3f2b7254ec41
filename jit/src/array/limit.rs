//! The memory limit of the process. An operating system that overcommits kills a process that uses memory it does not
//! have, so an allocation is checked against this limit first.
//!
//! The limit is the minimum of the machine's memory, including swap, and the limits of the process' control groups. It
//! is read once. Where neither can be read there is no limit. Not considered: memory of other processes and memory of
//! this process that holds no tensors. They change over time, and an error should be reproducible.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The limit in bytes.
static LIMIT: LazyLock<usize> = LazyLock::new(|| {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    limit(&read)
});

/// The reason that `bytes` more, in addition to `live`, exceed the limit; `None` if they do not.
pub(super) fn exceeded(bytes: usize, live: usize) -> Option<String> {
    let limit = *LIMIT;
    if live.saturating_add(bytes) <= limit { None } else { Some(reason(limit, live)) }
}

#[cold]
fn reason(limit: usize, live: usize) -> String {
    format!("this process can have {limit} bytes, and its tensors hold {live}")
}

/// The limit, from the Linux files that `read` returns.
fn limit(read: &dyn Fn(&Path) -> Option<String>) -> usize {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine(&text));
    let groups = read(Path::new("/proc/self/cgroup")).map_or_else(Vec::new, |text| limit_files(&text));
    let groups = groups.iter().filter_map(|path| read(path)?.trim().parse::<usize>().ok());
    groups.chain(machine).min().unwrap_or(usize::MAX)
}

/// Memory plus swap from `/proc/meminfo`, in bytes.
fn machine(text: &str) -> Option<usize> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim_end().parse::<usize>().ok()?.checked_mul(1024)
    };
    Some(field("MemTotal:")?.saturating_add(field("SwapTotal:").unwrap_or(0)))
}

/// The files with the limits of the groups in `/proc/self/cgroup` and of their ancestors. A group without a limit has
/// `max` there, or a very large number.
fn limit_files(text: &str) -> Vec<PathBuf> {
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
        // Inside a container the group may not be visible under its name; its limit is then that of the root.
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24000000 kB\nMemFree:          100000 kB\nSwapTotal:       1000000 kB\n";

    fn limit_of(files: &[(&str, &str)]) -> usize {
        limit(&|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_string()))
    }

    #[test]
    fn the_limit_is_the_minimum_of_machine_and_groups() {
        let machine = ("/proc/meminfo", MEMINFO);
        assert_eq!(limit_of(&[machine]), 25_000_000 * 1024);
        assert_eq!(limit_of(&[]), usize::MAX);
        assert_eq!(limit_of(&[("/proc/meminfo", "MemTotal: many")]), usize::MAX);
        let group = ("/proc/self/cgroup", "0::/a/b\n");
        assert_eq!(limit_of(&[machine, group, ("/sys/fs/cgroup/a/b/memory.max", "1000000\n")]), 1_000_000);
        assert_eq!(limit_of(&[machine, group, ("/sys/fs/cgroup/a/memory.max", "2000000\n")]), 2_000_000);
        assert_eq!(limit_of(&[machine, group, ("/sys/fs/cgroup/memory.max", "3000000\n")]), 3_000_000);
        assert_eq!(limit_of(&[machine, group, ("/sys/fs/cgroup/a/b/memory.max", "max\n")]), 25_000_000 * 1024);
        let group = ("/proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/a\nnonsense\n");
        let files = |path| [machine, group, (path, "4000000\n")];
        assert_eq!(limit_of(&files("/sys/fs/cgroup/memory/a/memory.limit_in_bytes")), 4_000_000);
        assert_eq!(limit_of(&files("/sys/fs/cgroup/memory/x/memory.limit_in_bytes")), 25_000_000 * 1024);
    }

    #[test]
    fn sizes_beyond_the_limit_are_rejected() {
        assert_eq!(exceeded(0, 0), None);
        assert_eq!(exceeded(1 << 10, 0), None);
        // Beyond any machine.
        assert!(
            exceeded(1 << 60, 0).is_some()
                && exceeded(usize::MAX, usize::MAX).is_some()
                && exceeded(1, 1 << 60).is_some()
        );
        assert_eq!(reason(10, 7), "this process can have 10 bytes, and its tensors hold 7");
    }
}
