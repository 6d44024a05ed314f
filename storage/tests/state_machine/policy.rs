//! The policy: set by whoever knows its version, and by nobody who has an older one.

use pygmy_storage::{
    changes::{ChangeKind, ChangeWhat},
    command::{Command, Outcome, Policy, Rejection},
};

use super::{Machine, keyed, put};

fn policy(key_limit: u64) -> Policy {
    Policy { key_limit, ..Policy::default() }
}

fn set_if(version: u64, key_limit: u64) -> Command {
    Command::SetPolicyIf { version, policy: policy(key_limit) }
}

fn mismatch(current: Option<u64>) -> Outcome {
    Outcome::Rejected(Rejection::VersionMismatch { current })
}

#[test]
fn a_policy_is_replaced_under_its_own_version_only() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 1));
    // Nobody has set one: what is in force has no version that anybody could name.
    for version in [0, 1, u64::MAX] {
        assert_eq!(m.run(set_if(version, 7)), mismatch(None), "{version}");
    }
    assert!(!m.working.state().policy_is_set());
    assert_eq!(*m.working.state().policy(), Policy::default());

    assert_eq!(m.run(Command::SetPolicy(policy(10))), Outcome::PolicySet);
    let first = m.working.state().policy_index().unwrap();
    assert_eq!(Some(first), m.working.state().applied());
    for version in [0, first - 1, first + 1] {
        assert_eq!(m.run(set_if(version, 7)), mismatch(Some(first)), "{version}");
    }
    assert_eq!(*m.working.state().policy(), policy(10));

    assert_eq!(m.run(set_if(first, 20)), Outcome::PolicySet);
    let second = m.working.state().policy_index().unwrap();
    assert!(second > first && Some(second) == m.working.state().applied());
    assert_eq!(*m.working.state().policy(), policy(20));
    // Two who read the same version: the second one is told what came before.
    assert_eq!(m.run(set_if(first, 30)), mismatch(Some(second)));
    assert_eq!(*m.working.state().policy(), policy(20));

    let told: Vec<u64> = m
        .changes(0)
        .into_iter()
        .filter(|change| change.kind == ChangeKind::Policy)
        .inspect(|change| assert_eq!((change.id, change.what), (0, ChangeWhat::Changed)))
        .map(|change| change.index)
        .collect();
    assert_eq!(told, [first, second], "what was refused changed nothing");
    m.assert_sound();
}

#[test]
fn a_conditional_policy_under_a_key_is_replayed_though_the_version_is_another_by_then() {
    let mut m = Machine::memory();
    m.run(Command::SetPolicy(policy(10)));
    let version = m.working.state().policy_index().unwrap();
    let first = m.apply(&keyed("k", 1000, set_if(version, 20)));
    assert_eq!((first.outcome.clone(), first.replayed), (Outcome::PolicySet, false));
    m.run(Command::SetPolicy(policy(30)));
    let again = m.apply(&keyed("k", 1000, set_if(version, 20)));
    assert_eq!((again.outcome, again.replayed, again.index), (first.outcome, true, first.index));
    assert_eq!(*m.working.state().policy(), policy(30), "it did not happen again");
    let other = m.apply(&keyed("k", 1000, set_if(version, 21)));
    assert_eq!(other.outcome, Outcome::Rejected(Rejection::KeyReused));
}

#[test]
fn the_version_is_kept_over_a_restart() {
    let mut m = Machine::memory();
    m.run(Command::SetPolicy(policy(10)));
    let version = m.working.state().policy_index().unwrap();
    m.run(put(1, 1, 1));
    m.checkpoint();
    let volume = m.volume.clone();
    drop(m);
    let (mut m, _) = Machine::open(volume);
    assert_eq!(m.run(set_if(version + 1, 20)), mismatch(Some(version)));
    assert_eq!(m.run(set_if(version, 20)), Outcome::PolicySet);
    m.assert_sound();
}
