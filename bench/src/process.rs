//! A process of a function, and the CPU time and memory that it used.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::Failure;

/// How to start a process.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment of the process, which inherits no other variables.
    pub(crate) environment: BTreeMap<String, String>,
}

/// A process that is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    id: u32,
    program: String,
}

impl Process {
    /// Starts the process. Its output is discarded unless `SEKISHO_BENCH_LOG` is set.
    pub(crate) fn start(start: &Start) -> Result<Self, Failure> {
        let (program, arguments) = start.command.split_first().ok_or("a command without a program")?;
        #[expect(clippy::disallowed_methods, reason = "a switch for people who debug a run")]
        let shown = std::env::var_os("SEKISHO_BENCH_LOG").is_some();
        let output = || if shown { Stdio::inherit() } else { Stdio::null() };
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&start.environment)
            .stdin(Stdio::null())
            .stdout(if shown { Stdio::from(std::io::stderr()) } else { Stdio::null() })
            .stderr(output())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let id = child.id().ok_or("the process ended immediately")?;
        Ok(Self { child, id, program: program.clone() })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// CPU time of all threads that are alive, counted by the scheduler.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanoseconds = 0_u64;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id))? {
            let count = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += count.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Peak resident memory in bytes.
    pub(crate) fn peak(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.id.to_string()).join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Waits until the process ends by itself, and returns a failure with the exit status. Such an end is always a
    /// failure, because measured programs run until they are killed.
    pub(crate) async fn ended(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => {
                format!("{} ended by itself ({status}): set SEKISHO_BENCH_LOG=1 to see its output", self.program).into()
            }
            Err(error) => error.into(),
        }
    }

    /// Kills the process and waits until it has ended.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        Ok(())
    }
}
