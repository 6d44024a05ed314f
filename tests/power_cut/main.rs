//! The power fails under load, on real file systems: every confirmed order is there afterwards.
//!
//! Each node has an ext4 file system of its own in a file. The cut is the shutdown that ext4 offers
//! for this purpose: from one moment to the next nothing reaches the disk any more, and what was not
//! synced by then is gone after the next mount. A kill never shows this, because the kernel keeps what
//! a dead process wrote.
//!
//! It needs root, loop devices and a mount namespace of its own, in which the mounts end with the
//! test. Where those are missing it says SKIPPED and why.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::LocalSet;

use harness::{
    cluster::{Cluster, SMALL_STORAGE, Spec},
    load::Buyers,
};

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "PYGMY_POWER_CUT_INSIDE";
/// Repeats a run's moments.
const SEED: &str = "PYGMY_POWER_CUT_SEED";
/// How often the power fails.
const CUTS: &str = "PYGMY_POWER_CUTS";
const CUTS_DEFAULT: u32 = 6;
const IMAGE_BYTES: u64 = 160 << 20;
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: not even the journal is written out.
const SHUTDOWN: &str = r#"
    foreach my $place (@ARGV) {
        open(my $root, "<", $place) or die "$place: $!";
        my $flags = pack("L", 2);
        ioctl($root, 0x8004587D, $flags) or die "$place: $!";
    }"#;

#[test]
fn every_confirmed_order_survives_power_cuts() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LocalSet::new().run_until(power_cuts()));
        return;
    }
    if let Err(why) = can_cut() {
        // Past the capture of the test harness, so that nobody takes it for a pass.
        eprintln!("SKIPPED: power cuts on real files: {why}");
        let warning = format!("\nSKIPPED: power cuts on real files: {why}\n\n");
        let _ = fs::OpenOptions::new()
            .write(true)
            .open("/dev/stderr")
            .and_then(|mut stderr| std::io::Write::write_all(&mut stderr, warning.as_bytes()));
        return;
    }
    let test = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(test)
        .args(["--exact", "every_confirmed_order_survives_power_cuts", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// Whether this machine can do it, tried on a file system of its own; why not otherwise.
fn can_cut() -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (image, place) = (scratch.path().join("image"), scratch.path().join("place"));
    File::create(&image).and_then(|f| f.set_len(16 << 20)).map_err(|e| e.to_string())?;
    fs::create_dir(&place).map_err(|e| e.to_string())?;
    let script = format!(
        "mkfs.ext4 -q -F image && mount -o loop image place && perl -e '{SHUTDOWN}' place && \
         umount place"
    );
    let tried = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--", "sh", "-c", &script])
        .env("PATH", path())
        .current_dir(scratch.path())
        .output()
        .map_err(|e| format!("unshare: {e}"))?;
    match tried.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&tried.stderr).trim().replace('\n', "; ")),
    }
}

/// Where `mkfs.ext4` is, which a user's PATH may leave out.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).env("PATH", path()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// A file system in a file.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    fn new(directory: &Path, name: &str) -> Self {
        let (image, place) = (directory.join(format!("{name}.ext4")), directory.join(name));
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        fs::create_dir(&place).unwrap();
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        let disk = Self { image, place };
        disk.mount();
        disk
    }

    fn place(&self) -> &str {
        self.place.to_str().unwrap()
    }

    fn mount(&self) {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), self.place()]);
    }

    fn unmount(&self) {
        run("umount", &[self.place()]);
    }
}

/// The disks of all nodes. Unmounted when dropped; the namespace's end would do it, too.
struct Disks {
    all: BTreeMap<&'static str, Disk>,
    _directory: TempDir,
}

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in self.all.values() {
            // One that a failed test has left unmounted is not there to unmount.
            let _ = Command::new("umount").arg(disk.place()).output();
        }
    }
}

async fn power_cuts() {
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let cuts: u32 =
        std::env::var(CUTS).ok().and_then(|text| text.parse().ok()).unwrap_or(CUTS_DEFAULT);
    println!("seed {seed}; {SEED}={seed} repeats its moments");
    let mut random = StdRng::seed_from_u64(seed);

    let directory = tempfile::Builder::new().prefix("pygmy-disks-").tempdir().unwrap();
    let names = ["node1", "node2", "node3"];
    let all = names.map(|name| (name, Disk::new(directory.path(), name)));
    let disks = Disks { all: all.into(), _directory: directory };
    let mut spec = Spec::three().with_node_sections(SMALL_STORAGE);
    spec.data_dirs =
        disks.all.iter().map(|(name, disk)| (*name, disk.place.join("data"))).collect();
    // Declared after the disks, so that its processes end before those are unmounted.
    let mut cluster = Cluster::start(spec).await;
    let change = json!({ "delta": 10_000_000, "reason": "received" });
    for item in [1, 2, 3] {
        let url = cluster.facade(&format!("/v1/items/{item}/stock"));
        assert_eq!(cluster.http.post(&url, &change, None).await.status, 200);
    }

    let mut confirmed = 0;
    for cut in 1..=cuts {
        // One node, a majority, or all: half of the cuts are of all.
        let struck: Vec<&str> = match random.random_range(0..4) {
            0 => vec![names[random.random_range(0..3)]],
            1 => {
                let spared = random.random_range(0..3);
                names
                    .into_iter()
                    .enumerate()
                    .filter(|(n, _)| *n != spared)
                    .map(|(_, n)| n)
                    .collect()
            }
            _ => names.to_vec(),
        };
        let stores: Vec<_> = names.iter().map(|name| cluster.node(name, "")).collect();
        let buyers = Buyers::start(12, &stores, &[1, 2, 3]);
        buyers.await_confirmed(random.random_range(60..400)).await;

        // First the disks, all at once; then the processes, which may have gone by themselves.
        let places: Vec<_> = struck.iter().map(|name| disks.all[name].place()).collect();
        run("perl", &[&["-e", SHUTDOWN], &places[..]].concat());
        for name in &struck {
            cluster.kill(name);
        }
        let told = buyers.stop().await;
        for name in &struck {
            disks.all[name].unmount();
            disks.all[name].mount();
            cluster.start_node(name);
        }
        cluster.await_serving().await;
        told.check(&cluster.http, &cluster.facade("")).await;
        cluster.verify().await;
        let count = told.confirmed.borrow().len();
        confirmed += count;
        println!("cut {cut}: {struck:?} after {count} confirmed orders: all there");
    }
    println!("{cuts} power cuts, {confirmed} confirmed orders, none lost");
    cluster.kill_all();
}
