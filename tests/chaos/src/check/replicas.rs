//! The replicas against each other, once they are level.

use std::{collections::BTreeMap, fmt::Debug};

use pygmy::api::Verification;

use super::Check;
use crate::history::Replica;

/// Every replica shows the same orders, reservations and items.
pub(super) fn same_contents(replicas: &[Replica]) -> Check {
    let mut check = Check::new("all replicas show the same orders, reservations and items");
    let Some((first, others)) = replicas.split_first() else { return check };
    for other in others {
        compare(&mut check, "orders", (first, &first.orders), (other, &other.orders));
        let (one, two) = (&first.reservations, &other.reservations);
        compare(&mut check, "reservations", (first, one), (other, two));
        compare(&mut check, "items", (first, &first.items), (other, &other.items));
    }
    check
}

fn compare<T: PartialEq + Debug>(
    check: &mut Check,
    what: &str,
    (left, left_rows): (&Replica, &[T]),
    (right, right_rows): (&Replica, &[T]),
) {
    check.examined += left_rows.len().max(right_rows.len()) as u64;
    if let Some(place) = difference(left_rows, right_rows) {
        check.violation(|| {
            format!(
                "{what}, place {}: {} has {:?}, {} has {:?}",
                place + 1,
                left.name,
                left_rows.get(place),
                right.name,
                right_rows.get(place),
            )
        });
    }
}

/// The first place where they are not the same.
fn difference<T: PartialEq>(left: &[T], right: &[T]) -> Option<usize> {
    let common = left.iter().zip(right).position(|(left, right)| left != right);
    common.or_else(|| (left.len() != right.len()).then(|| left.len().min(right.len())))
}

/// Every replica passes its own check, and all have the same state hash wherever they can be compared.
pub(super) fn same_hash(replicas: &[Replica]) -> Check {
    let mut check = Check::new("all replicas verify and have the same state hash");
    let mut verified = Vec::new();
    for replica in replicas {
        check.examine();
        match &replica.verification {
            Ok(verification) => {
                if !verification.ok || verification.checks.iter().any(|one| !one.ok) {
                    let failed: Vec<_> = verification.checks.iter().filter(|one| !one.ok).collect();
                    check.violation(|| format!("{}: verify failed: {failed:?}", replica.name));
                }
                verified.push((&replica.name, hashes(verification)));
            }
            Err(reason) => check.violation(|| format!("{}: no verify: {reason}", replica.name)),
        }
    }
    let Some(((first, expected), others)) = verified.split_first() else { return check };
    for (name, hashes) in others {
        let mut compared = 0;
        for (index, hash) in hashes {
            if let Some(other) = expected.get(index) {
                compared += 1;
                check.expect(hash == other, || {
                    format!("at index {index}: {first} has {other}, {name} has {hash}")
                });
            }
        }
        if compared == 0 {
            check.violation(|| format!("{first} and {name} have no index in common to compare"));
        }
    }
    check
}

fn hashes(verification: &Verification) -> BTreeMap<u64, &str> {
    let ring = verification.hash_ring.iter().map(|at| (at.index, at.hash.as_str()));
    ring.chain([(verification.index, verification.state_hash.as_str())]).collect()
}
