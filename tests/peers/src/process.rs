//! Processes of other programs: started, watched, ended by their id, never left behind.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long a process may take to end by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of a log's end that are shown when its process failed.
const LOG_LINES: usize = 15;
const SETPRIV: &str = "/usr/bin/setpriv";

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to a log. Where `setpriv` is there, it dies with this
    /// process, even if that is killed.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        args: &[String],
        user: Option<&User>,
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = command(program, args, user);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A Ctrl-C in the terminal is for this process, which then ends the others.
        command.process_group(0).kill_on_drop(true);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n    ");
                bail!("{} ended by itself ({status}). The end of its log:\n    {tail}", self.name)
            }
        }
    }

    /// Tells it to end and waits; kills it if it does not.
    pub(crate) async fn stop(mut self, signal: Signal) -> Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(id) = id {
            // It is not reaped yet, so the id is its own; it can only be gone already.
            let _ = kill_process(id, signal);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))?;
        }
        Ok(())
    }
}

/// Runs a program to its end, which must be a good one.
#[cfg(feature = "peers")]
pub(crate) async fn run(
    program: &Path,
    args: &[String],
    user: Option<&User>,
) -> Result<std::process::Output> {
    let mut command = command(program, args, user);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", program.display(), output.status, words.trim());
    }
    Ok(output)
}

fn command(program: &Path, args: &[String], user: Option<&User>) -> Command {
    let mut command = if Path::new(SETPRIV).exists() {
        let mut command = Command::new(SETPRIV);
        if let Some(User { id, group, .. }) = user {
            command.arg(format!("--reuid={id}")).arg(format!("--regid={group}"));
            command.arg("--clear-groups");
        }
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        let mut command = Command::new(program);
        if let Some(User { id, group, .. }) = user {
            command.uid(*id).gid(*group);
        }
        command
    };
    command.args(args).current_dir("/");
    // No setting of the caller's environment may change what is measured.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["PYGMY_", "ETCD_", "PG"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// An account of this machine.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) group: u32,
}

impl User {
    /// The account of a name.
    #[cfg(feature = "peers")]
    pub(crate) fn named(name: &str) -> Option<Self> {
        let accounts = fs::read_to_string("/etc/passwd").ok()?;
        let fields: Vec<_> = accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name))?;
        Some(Self { id: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
    }
}

/// Whether this process is root's.
#[cfg(feature = "peers")]
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program by its name, where the shell would find it.
#[cfg(feature = "peers")]
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
