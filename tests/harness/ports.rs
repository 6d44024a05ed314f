//! Ports that are free, and stay so for whoever was given them.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// Ports below this are other programs'.
const PORT_MIN: u16 = 10_000;

/// Given out in this process: tests run side by side, and a node that is down keeps its port.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on loopback that nobody listens on, and that no outgoing connection will be given: those
/// come from a range of the kernel's, and this one is below it.
pub(crate) fn free_port() -> u16 {
    let first_outgoing = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(32_768);
    let port_max = if first_outgoing > PORT_MIN + 1_000 { first_outgoing } else { u16::MAX };
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..10_000 {
        let port = rand::random_range(PORT_MIN..port_max);
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("there is no free port on 127.0.0.1");
}
