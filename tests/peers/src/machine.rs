//! What the figures were measured on: without it they mean nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{fdatasync, statfs};
use serde::{Deserialize, Serialize};

/// Writes that are synced to see how fast a disk is.
const SYNCS: usize = 60;
const SYNCED_BYTES: usize = 4096;

/// A machine and the disk that data is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The kind of file system.
    pub filesystem: String,
    /// Median time for writing 4 KiB and syncing it, in microseconds.
    pub sync_us: u64,
}

impl Machine {
    /// This machine, with data in this directory.
    pub fn look(directory: &Path) -> Result<Self> {
        let filesystem = filesystem(directory)?;
        if filesystem == "tmpfs" {
            bail!(
                "{} is in memory, where a sync costs nothing: name a directory on a disk with --dir",
                directory.display()
            );
        }
        Ok(Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes * 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned()),
            filesystem,
            sync_us: u64::try_from(sync_time(directory)?.as_micros())?,
        })
    }
}

/// A field of a file that has one on each line.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)?;
    Some(value.trim().to_owned())
}

fn filesystem(directory: &Path) -> Result<String> {
    let kind = statfs(directory)
        .with_context(|| format!("cannot look at {}", directory.display()))?
        .f_type;
    Ok(match kind as u64 & 0xffff_ffff {
        0xef53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683e => "btrfs".into(),
        0x2fc1_2fc1 => "zfs".into(),
        0x794c_7630 => "overlayfs".into(),
        0x0102_1994 | 0x8584_58f6 => "tmpfs".into(),
        other => format!("{other:#x}"),
    })
}

fn sync_time(directory: &Path) -> Result<Duration> {
    let path = directory.join("sync");
    let mut file = File::create(&path).context("cannot write where the data is to be")?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[7; SYNCED_BYTES])?;
        fdatasync(&file)?;
        times.push(begun.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}
