//! One node's process: started, stopped, killed, paused, and never leaked.

use std::{
    cell::{Cell, RefCell},
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Bytes of a log that are shown when its node failed.
const LOG_TAIL_BYTES: u64 = 3_000;
/// How long a node may take to stop by itself after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What a node's process is meant to be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Running.
    Up,
    /// Stopped by SIGSTOP.
    Paused,
    /// Not there, because it was killed or told to stop, or never started.
    Down,
}

/// How to start a node.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// The node's configuration.
    pub config: PathBuf,
    /// The file that its output is appended to.
    pub log: PathBuf,
    /// Added to its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// A node's process, over all its lives.
#[derive(Debug)]
pub struct NodeProcess {
    launch: Launch,
    child: RefCell<Option<Child>>,
    condition: Cell<Condition>,
}

impl NodeProcess {
    /// A process that has not been started.
    pub fn new(launch: Launch) -> Self {
        Self { launch, child: RefCell::new(None), condition: Cell::new(Condition::Down) }
    }

    /// What it is meant to be doing.
    pub fn condition(&self) -> Condition {
        self.condition.get()
    }

    /// Its process id while there is a process.
    pub fn pid(&self) -> Option<u32> {
        self.child.borrow().as_ref().and_then(Child::id)
    }

    /// Starts it if it is not there, in a process group of its own, so that a Ctrl-C in the terminal does not reach it.
    ///
    /// Dropping the process kills it. Where `setpriv` is there, the kernel does the same if this program
    /// is itself killed.
    pub fn start(&self) -> Result<()> {
        if self.child.borrow().is_some() {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.launch.log)
            .with_context(|| format!("cannot open {}", self.launch.log.display()))?;
        let mut command = match setpriv() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&self.launch.program);
                command
            }
            None => Command::new(&self.launch.program),
        };
        command.arg("serve").arg("--config").arg(&self.launch.config);
        // A setting of the caller's own environment must not change the cluster.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PYGMY_") {
                command.env_remove(name);
            }
        }
        command.envs(self.launch.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.process_group(0).kill_on_drop(true);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.launch.program.display()))?;
        *self.child.borrow_mut() = Some(child);
        self.condition.set(Condition::Up);
        Ok(())
    }

    /// SIGKILL. The signal is sent when this returns; [`Self::gone`] waits for the end.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.condition.set(Condition::Down);
    }

    /// SIGTERM: the node is to stop by itself.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
        self.condition.set(Condition::Down);
    }

    /// SIGSTOP: the node stands still, its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        self.condition.set(Condition::Paused);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
        self.condition.set(Condition::Up);
    }

    /// Waits until a process that was told to end is gone, and gives its exit status if there was one. One
    /// that does not go is killed, and that is an error.
    pub async fn gone(&self) -> Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.borrow_mut().take() else { return Ok(None) };
        if let Ok(status) = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
            return status.map(Some).context("cannot wait for a node's end");
        }
        child.kill().await.context("cannot kill a node")?;
        anyhow::bail!("did not stop within {} s after SIGTERM", STOP_TIMEOUT.as_secs())
    }

    /// The exit status of a process that ended though nobody told it to.
    pub fn unexpected_exit(&self) -> Option<ExitStatus> {
        if self.condition.get() == Condition::Down {
            return None;
        }
        let status = self.child.borrow_mut().as_mut()?.try_wait().ok().flatten()?;
        self.child.borrow_mut().take();
        self.condition.set(Condition::Down);
        Some(status)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let tail = || -> std::io::Result<String> {
            let mut log = File::open(&self.launch.log)?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut tail = Vec::new();
            log.read_to_end(&mut tail)?;
            Ok(String::from_utf8_lossy(&tail).into_owned())
        };
        tail().unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// Memory in use by the process, in bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // The child is not reaped yet, so the id is its own; it can only be gone already.
            let _ = kill_process(pid, signal);
        }
    }
}

fn setpriv() -> Option<&'static Path> {
    let path = Path::new("/usr/bin/setpriv");
    path.exists().then_some(path)
}
