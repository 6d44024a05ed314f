//! `pygmy verify`: every member checks itself, then they are held against each other.
//!
//! Each replica derives its state anew at its own address; here only hashes are compared, at
//! indexes that several replicas report. What could not be asked or compared is not a pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::args::Verify;
use super::{Answer, Exit, Stop, show};
use crate::api::{Member, Verification};
use crate::client::{Client, Timeouts};

/// How often members are asked again when they have no index in common yet, as under load just
/// after the start.
const ROUNDS_MAX: usize = 5;
/// The pause before asking again.
const PAUSE: Duration = Duration::from_millis(300);
/// How much of a hash is shown in the table.
const HASH_SHOWN: usize = 16;

/// What was found, for people and programs.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    /// The newest index at which all members were compared.
    compared_at: Option<u64>,
    members: Vec<MemberReport>,
    /// What is wrong, in words.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct MemberReport {
    name: String,
    api: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<Verification>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn verify(args: Verify) -> Result<Answer, Stop> {
    let mut members = args.reading.remote.client()?.cluster().await?.members;
    // One that has joined anew is listed under its old id as well until it votes.
    let mut seen = BTreeSet::new();
    members.retain(|member| seen.insert((member.name.clone(), member.api.clone())));
    let limit = Duration::from_secs(args.member_timeout);
    let mut rounds = 1;
    let report = loop {
        let reports = join_all(members.iter().map(|member| ask(member, limit))).await;
        let report = judge(reports);
        // Only a missing common index is worth another round: everything else is a finding.
        let all_answered = report.members.iter().all(|member| member.verification.is_some());
        if report.compared_at.is_some() || !all_answered || rounds == ROUNDS_MAX {
            break report;
        }
        rounds += 1;
        tokio::time::sleep(PAUSE).await;
    };
    let exit = if report.ok { Exit::Ok } else { Exit::No };
    if args.reading.json {
        return Ok(Answer::json(&report, exit));
    }
    Ok(Answer { text: in_words(&report), note: None, exit })
}

async fn ask(member: &Member, limit: Duration) -> MemberReport {
    let timeouts = Timeouts { attempt: limit, total: limit, ..Timeouts::default() };
    let answer = match Client::with_timeouts(&member.api, timeouts) {
        Ok(client) => client.verify().await,
        Err(error) => Err(error),
    };
    let (verification, error) = match answer {
        Ok(verification) => (Some(verification), None),
        Err(error) => (None, Some(error.to_string())),
    };
    MemberReport { name: member.name.clone(), api: member.api.clone(), verification, error }
}

/// Holds the members' findings against each other.
fn judge(members: Vec<MemberReport>) -> Report {
    let mut problems = Vec::new();
    let mut hashes: BTreeMap<u64, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for member in &members {
        let Some(found) = &member.verification else {
            let error = member.error.as_deref().unwrap_or("no answer");
            problems.push(format!("{} did not answer, which is not a pass: {error}", member.name));
            continue;
        };
        if found.node != member.name {
            problems.push(format!("{} answers at {} as {}", member.name, member.api, found.node));
        }
        let failed: Vec<_> = found.checks.iter().filter(|check| !check.ok).collect();
        for check in &failed {
            problems.push(format!("{}: {}: {}", member.name, check.name, check.detail));
        }
        if !found.ok && failed.is_empty() || found.checks.is_empty() {
            problems.push(format!("{}: did not finish its checks", member.name));
        }
        let ring = found.hash_ring.iter().map(|at| (at.index, at.hash.as_str()));
        for (index, hash) in ring.chain([(found.index, found.state_hash.as_str())]) {
            hashes.entry(index).or_default().entry(hash).or_default().insert(&member.name);
        }
    }
    for (index, found) in &hashes {
        if found.len() > 1 {
            let sides: Vec<_> = found
                .iter()
                .map(|(hash, names)| {
                    format!(
                        "{} on {}",
                        short(hash),
                        names.iter().copied().collect::<Vec<_>>().join(", ")
                    )
                })
                .collect();
            problems.push(format!("the replicas differ at index {index}: {}", sides.join("; ")));
        }
    }
    let everywhere = |found: &BTreeMap<&str, BTreeSet<&str>>| {
        found.values().flatten().collect::<BTreeSet<_>>().len() == members.len()
    };
    let compared_at =
        hashes.iter().rev().find(|(_, found)| everywhere(found)).map(|(index, _)| *index);
    if members.is_empty() {
        problems.push("the cluster names no members".into());
    } else if compared_at.is_none() && members.iter().all(|member| member.verification.is_some()) {
        problems.push(
            "the replicas have no index in common at which to compare them; verify again".into(),
        );
    }
    Report { ok: problems.is_empty(), compared_at, members, problems }
}

fn in_words(report: &Report) -> String {
    let row = |member: &MemberReport| {
        let found = member.verification.as_ref();
        let of = |show: fn(&Verification) -> String| found.map_or_else(|| "-".into(), show);
        vec![
            member.name.clone(),
            member.api.clone(),
            of(|found| found.index.to_string()),
            of(|found| short(&found.state_hash).to_owned()),
            of(|found| {
                let passed = found.checks.iter().filter(|check| check.ok).count();
                format!("{passed} of {}", found.checks.len())
            }),
            match found {
                Some(found) if found.ok => "ok".into(),
                Some(_) => "FAILED".into(),
                None => "NO ANSWER".into(),
            },
        ]
    };
    let table = show::table(
        &["member", "api", "#index", "state hash", "#checks passed", "result"],
        report.members.iter().map(row),
    );
    let verdict = match (report.ok, report.compared_at) {
        (true, Some(index)) => {
            format!("All {} replicas are sound and equal at index {index}.", report.members.len())
        }
        _ => format!("NOT verified:\n  {}", report.problems.join("\n  ")),
    };
    format!("{table}\n{verdict}")
}

fn short(hash: &str) -> &str {
    hash.get(..HASH_SHOWN).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Check, HashAt};

    fn member(name: &str, index: u64, hash: &str, ring: &[(u64, &str)]) -> MemberReport {
        let verification = Verification {
            node: name.into(),
            index,
            ok: true,
            state_hash: hash.into(),
            hash_ring: ring
                .iter()
                .map(|(index, hash)| HashAt { index: *index, hash: (*hash).into() })
                .collect(),
            checks: vec![Check { name: "ledger".into(), ok: true, detail: "7 items".into() }],
        };
        MemberReport {
            name: name.into(),
            api: "h:1".into(),
            verification: Some(verification),
            error: None,
        }
    }

    #[test]
    fn replicas_at_different_indexes_are_compared_where_their_rings_meet() {
        let report = judge(vec![
            member("a", 30, "x30", &[(10, "x10"), (20, "x20")]),
            member("b", 25, "x25", &[(10, "x10"), (20, "x20")]),
            member("c", 20, "x20", &[(10, "x10")]),
        ]);
        assert_eq!((report.ok, report.compared_at), (true, Some(20)), "{report:?}");
        assert!(in_words(&report).ends_with("All 3 replicas are sound and equal at index 20."));
    }

    #[test]
    fn a_difference_anywhere_is_found_even_if_a_later_index_agrees() {
        let report = judge(vec![
            member("a", 20, "x20", &[(10, "x10")]),
            member("b", 20, "x20", &[(10, "y10")]),
            member("c", 20, "x20", &[]),
        ]);
        assert!(!report.ok);
        assert_eq!(report.problems, ["the replicas differ at index 10: x10 on a; y10 on b"]);
    }

    #[test]
    fn what_was_not_asked_not_checked_or_not_compared_is_not_a_pass() {
        let silent = || MemberReport {
            name: "c".into(),
            api: "h:2".into(),
            verification: None,
            error: Some("Connection refused".into()),
        };
        let report = judge(vec![member("a", 5, "x", &[]), member("b", 5, "x", &[]), silent()]);
        assert_eq!(report.problems, ["c did not answer, which is not a pass: Connection refused"]);

        let report = judge(vec![member("a", 5, "x", &[]), member("b", 6, "y", &[])]);
        assert_eq!(report.compared_at, None);
        assert!(report.problems[0].contains("no index in common"), "{report:?}");

        let mut unchecked = member("a", 5, "x", &[]);
        unchecked.verification.as_mut().expect("is there").checks.clear();
        assert_eq!(judge(vec![unchecked]).problems, ["a: did not finish its checks"]);

        let mut failed = member("a", 5, "x", &[]);
        let found = failed.verification.as_mut().expect("is there");
        found.ok = false;
        found.checks[0].ok = false;
        found.checks[0].detail = "item 3: 4 sold, 3 in the ledger".into();
        assert_eq!(judge(vec![failed]).problems, ["a: ledger: item 3: 4 sold, 3 in the ledger"]);

        assert!(!judge(Vec::new()).ok);
        assert!(
            !judge(vec![member("a", 5, "x", &[(5, "y")])]).ok,
            "one replica must agree with itself"
        );
        let mut stranger = member("a", 5, "x", &[]);
        stranger.name = "b".into();
        assert!(!judge(vec![stranger]).ok, "somebody else at a member's address");
    }
}
