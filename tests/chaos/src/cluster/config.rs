//! Ports and configuration files of a cluster on loopback.

use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rand::Rng;

/// Ports below this are other programs'.
const PORT_MIN: u16 = 10_000;

/// What a node's storage is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// The program's own defaults.
    Default,
    /// So small that snapshots, purges and rejoins by snapshot happen within seconds.
    Small,
}

/// A member as its cluster's configuration names it.
#[derive(Debug, Clone)]
pub struct Address {
    /// The node's name.
    pub name: String,
    /// Its Raft id, from 1.
    pub id: u64,
    /// Where its REST interface listens.
    pub api: SocketAddr,
    /// Where its peers reach it.
    pub peer: SocketAddr,
}

/// Names, ids and free ports for a cluster of this many.
pub(super) fn addresses(nodes: usize) -> Result<Vec<Address>> {
    let ports = free_ports(2 * nodes)?;
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok((1u64..)
        .zip(ports.chunks_exact(2))
        .map(|(id, ports)| Address {
            name: format!("node{id}"),
            id,
            api: at(ports[0]),
            peer: at(ports[1]),
        })
        .collect())
}

/// Ports that are free now and that no outgoing connection will take while their node is down.
///
/// A port that the kernel picks (port 0) is from its range for outgoing connections: while a node is
/// dead, any connection on this machine could be given its port. So these are from below that range.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let first_outgoing = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(32_768);
    let port_max = if first_outgoing > PORT_MIN + 1_000 { first_outgoing } else { u16::MAX };
    // All stay bound until the last is found, so that none is found twice.
    let mut bound = Vec::with_capacity(count);
    for _ in 0..count * 200 {
        let port = rand::rng().random_range(PORT_MIN..port_max);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            bound.push((port, listener));
            if bound.len() == count {
                return Ok(bound.into_iter().map(|(port, _)| port).collect());
            }
        }
    }
    bail!("found only {} of {count} free ports on 127.0.0.1", bound.len())
}

/// Writes one node's configuration and gives its path.
pub(super) fn write(
    directory: &Path,
    member: &Address,
    members: &[Address],
    storage: Storage,
) -> Result<PathBuf> {
    let path = directory.join("node.toml");
    let text = text(&directory.join("data"), member, members, storage);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn text(data: &Path, member: &Address, members: &[Address], storage: Storage) -> String {
    let mut text = format!(
        "[node]\nname = \"{}\"\ndata_dir = {:?}\n\n[api]\nlisten = \"{}\"\n\n[peer]\nlisten = \"{}\"\n\n\
         [cluster]\nname = \"chaos\"\nsecret = \"only-for-a-test-on-loopback\"\n",
        member.name, data, member.api, member.peer,
    );
    for Address { name, id, api, peer } in members {
        write!(
            text,
            "\n[[cluster.members]]\nname = \"{name}\"\nid = {id}\napi = \"{api}\"\npeer = \"{peer}\"\n\
             roles = [\"catalog\", \"order\"]\n",
        )
        .expect("writing to a string cannot fail");
    }
    if storage == Storage::Small {
        text += "\n[storage]\ncheckpoint_interval_ms = 500\ncheckpoint_entries = 2000\n\
                 snapshot_entries = 5000\nkeep_log_entries = 500\n";
    }
    // What is read out at the end must still be there, however long the run.
    text + "\n[policy]\nrestock = false\nchange_history = 100000000\nreservation_history = 10000000\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_distinct_and_below_the_outgoing_range() {
        let members = addresses(5).unwrap();
        let ports: BTreeSet<u16> =
            members.iter().flat_map(|member| [member.api.port(), member.peer.port()]).collect();
        assert_eq!(ports.len(), 10);
        assert!(ports.iter().all(|port| *port >= PORT_MIN));
    }

    #[test]
    fn configuration_is_toml_with_every_member() {
        let members = addresses(3).unwrap();
        let text = text(Path::new("/tmp/a \"b\"/data"), &members[1], &members, Storage::Small);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["node"]["name"].as_str(), Some("node2"));
        assert_eq!(table["node"]["data_dir"].as_str(), Some("/tmp/a \"b\"/data"));
        assert_eq!(table["cluster"]["members"].as_array().map(Vec::len), Some(3));
        assert_eq!(table["cluster"]["members"][2]["id"].as_integer(), Some(3));
        assert_eq!(table["storage"]["snapshot_entries"].as_integer(), Some(5000));
    }
}
