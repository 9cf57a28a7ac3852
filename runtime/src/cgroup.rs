//! What the system lets this process have, as containers are limited: Linux's control groups, version 2 and 1.

use std::fs;
use std::path::Path;

/// Larger limits are none (version 1 writes nearly 2^63).
const NONE: usize = 1 << 50;

/// Bytes of memory that the process may use, if that is limited.
pub fn memory_limit() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit(&groups, Path::new("/sys/fs/cgroup"))
}

/// `groups`: the process's `/proc/self/cgroup`. The least limit of its group and all above; in a container the group is the root.
fn limit(groups: &str, root: &Path) -> Option<usize> {
    let mut least: Option<usize> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            c if c.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(folder.join(group).join(file)).unwrap_or_default();
            if let Some(limit) = text.trim().parse::<usize>().ok().filter(|l| *l < NONE) {
                least = Some(least.map_or(limit, |l| l.min(limit)));
            }
        }
    }
    least
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(limit("0::/pods/one\n", dir.path()), None);
        write("pods/one/memory.max", "max\n");
        assert_eq!(limit("0::/pods/one\n", dir.path()), None);
        write("pods/memory.max", "1048576\n");
        assert_eq!(limit("0::/pods/one\n", dir.path()), Some(1 << 20));
        write("memory.max", "4096\n");
        assert_eq!(limit("0::/\n", dir.path()), Some(4096));
        write("memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n", dir.path()), None);
        write("memory/docker/memory.limit_in_bytes", "8192\n");
        assert_eq!(limit("4:memory:/docker/x\n", dir.path()), Some(8192));
    }
}
