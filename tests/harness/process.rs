//! One process of the program: started, signalled, waited for, never left behind.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pygmy");
/// Bytes of a log's end that are shown when a test has failed.
const LOG_SHOWN: usize = 4_000;

/// Puts a known bug back into a build with `--features sabotage`, to see a test fail; it is the only
/// setting of the environment that reaches the program.
const SABOTAGE: &str = "PYGMY_SABOTAGE";

/// A command line of the program with nothing of this environment's settings in it.
fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PYGMY_") && name != SABOTAGE {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a subcommand to its end.
pub(crate) async fn pygmy(args: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command(PROGRAM, args));
    let running = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, running).await;
    output.unwrap_or_else(|_| panic!("pygmy {args:?} does not end")).unwrap()
}

/// Runs a subcommand that must succeed, and gives what it says.
pub(crate) async fn pygmy_ok(args: &[&str]) -> String {
    let output = pygmy(args).await;
    assert_eq!(output.status.code(), Some(0), "pygmy {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A running server. Dropping it kills it; its log stays.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program; its output is appended to a log.
    ///
    /// It dies with the thread that starts it, even if that is killed, where `setpriv` is there.
    pub(crate) fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, log: &Path) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let setpriv = "/usr/bin/setpriv";
        let mut command = if Path::new(setpriv).exists() {
            let tied = ["--pdeathsig", "KILL", "--", PROGRAM].map(OsStr::new);
            let mut command = command(setpriv, tied);
            command.args(args);
            command
        } else {
            command(PROGRAM, args)
        };
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has an id");
        // It is not reaped yet, so the id is its own.
        kill_process(pid, signal).unwrap();
    }

    /// SIGKILL, and the end of it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: it stands still, and its connections stay open.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        until("the process ends", async || self.child.try_wait().unwrap()).await
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(&self.log).unwrap_or_default();
            let end = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]);
            eprintln!("--- {}\n{end}", self.log.display());
        }
        // It may have ended; and there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
