//! A control group that limits its processes to 7 % of a core. Lambda gives this share to a function with 128 MB after
//! its init phase.

use std::path::{Path, PathBuf};

/// Period of the CPU quota in microseconds.
const PERIOD: u32 = 20_000;
/// CPU time in each period, in microseconds. With 128 MB, Lambda gives a function 128/1769 of a core.
const QUOTA: u32 = PERIOD * 128 / 1769;

/// A control group. It is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Throttle(PathBuf);

impl Throttle {
    /// Makes the group with version 2 of the kernel's interface, or with version 1 if the machine has no version 2.
    ///
    /// # Errors
    /// Returns the reason why this machine does not allow a control group, as a text for people.
    pub(crate) fn make() -> Result<Self, String> {
        let name = format!("sekisho-bench-{}", std::process::id());
        let second = Path::new("/sys/fs/cgroup").join(&name);
        let first = Path::new("/sys/fs/cgroup/cpu").join(&name);
        let is_second = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let made = if is_second {
            group(second, &[("cpu.max", format!("{QUOTA} {PERIOD}"))])
        } else {
            group(first, &[("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", QUOTA.to_string())])
        };
        made.map_err(|(path, error)| format!("{}: {error}", path.display()))
    }

    /// Throttles a process from now on.
    pub(crate) fn add(&self, process: u32) -> std::io::Result<()> {
        std::fs::write(self.0.join("cgroup.procs"), process.to_string())
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn group(path: PathBuf, settings: &[(&str, String)]) -> Result<Throttle, (PathBuf, std::io::Error)> {
    std::fs::create_dir(&path).map_err(|error| (path.clone(), error))?;
    let group = Throttle(path);
    for (name, value) in settings {
        let file = group.0.join(name);
        std::fs::write(&file, value).map_err(|error| (file, error))?;
    }
    Ok(group)
}
