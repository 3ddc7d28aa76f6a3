//! Where this process's control groups are (cgroups(7)): version 1 has a hierarchy for each controller, version 2 one for all.

use std::path::PathBuf;

/// The place of this process in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// Version 1, with the controllers that it has.
    One { controllers: Vec<String>, folder: PathBuf },
    /// Version 2.
    Two { folder: PathBuf },
}

/// Of this process.
pub(crate) fn of_this_process() -> Vec<Hierarchy> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// From the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`. A group that can't be seen from here is left out.
fn parse(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    groups.lines().filter_map(|line| place(line, &mounts)).collect()
}

fn place(line: &str, mounts: &[Mount]) -> Option<Hierarchy> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    if number == "0" && controllers.is_empty() {
        let folder = mounts.iter().filter(|mount| mount.kind == "cgroup2").find_map(|mount| mount.folder(path))?;
        return Some(Hierarchy::Two { folder });
    }
    let controllers: Vec<String> = controllers.split(',').map(str::to_owned).collect();
    let is_of = |mount: &&Mount| mount.kind == "cgroup" && controllers.iter().all(|c| mount.options.split(',').any(|o| o == c));
    let folder = mounts.iter().filter(is_of).find_map(|mount| mount.folder(path))?;
    Some(Hierarchy::One { controllers, folder })
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
struct Mount<'a> {
    root: &'a str,
    at: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut what = what.split(' ');
        let (root, at) = (place.next()?, place.next()?.replace("\\040", " ").into());
        let kind = what.next()?;
        Some(Mount { root, at, kind, options: what.nth(1)? })
    }

    /// Where a group is in the file system.
    fn folder(&self, group: &str) -> Option<PathBuf> {
        let below = match self.root {
            "/" => group,
            root => group.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
        };
        let below = below.trim_matches('/');
        let is_seen = below.split('/').all(|part| part != "..");
        is_seen.then(|| if below.is_empty() { self.at.clone() } else { self.at.join(below) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_version_one_are_found_by_their_controllers() {
        let mounts = "\
            30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            31 25 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            32 25 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
            33 25 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            34 25 0:30 / /home/a\\040b rw - ext4 /dev/vda rw\n";
        let groups = "4:memory:/jobs/7\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/\n0::/\n";
        let one = |controllers: &[&str], folder: &str| Hierarchy::One {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            folder: folder.into(),
        };
        assert_eq!(
            parse(groups, mounts),
            [
                one(&["memory"], "/sys/fs/cgroup/memory/jobs/7"),
                one(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu"),
                one(&["name=systemd"], "/sys/fs/cgroup/systemd"),
                Hierarchy::Two { folder: "/sys/fs/cgroup/unified".into() },
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_group_or_none() {
        let two = |folder: &str| vec![Hierarchy::Two { folder: folder.into() }];
        let mount = |root: &str| format!("30 25 0:26 {root} /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n");
        assert_eq!(parse("0::/user.slice/x.scope\n", &mount("/")), two("/sys/fs/cgroup/user.slice/x.scope"));
        assert_eq!(parse("0::/docker/ab\n", &mount("/docker/ab")), two("/sys/fs/cgroup"));
        assert_eq!(parse("0::/docker/ab/c\n", &mount("/docker/ab")), two("/sys/fs/cgroup/c"));
        assert_eq!(parse("0::/docker/abc\n", &mount("/docker/ab")), []);
        assert_eq!(parse("0::/../other\n", &mount("/")), []);
        assert_eq!(parse("nonsense\n", "nonsense\n"), []);
    }
}
