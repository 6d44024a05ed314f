//! No node goes back in time.
//!
//! Once a node has answered a read at an index, no read of any level that starts later on that node may
//! be answered below it, a restart in between or not. A reader that stays with one node therefore never
//! sees the store go back.

use std::collections::BTreeMap;

use super::Check;
use crate::history::{NodeIndex, Read};

/// Checks the reads of each node.
pub(super) fn check(reads: &[Read]) -> Check {
    let mut check = Check::new("no node ever shows an older state than before");
    let mut nodes: BTreeMap<NodeIndex, Vec<&Read>> = BTreeMap::new();
    for read in reads {
        nodes.entry(read.node).or_default().push(read);
    }
    for by_start in nodes.values_mut() {
        by_start.sort_by_key(|read| read.span.start);
        let mut by_end = by_start.clone();
        by_end.sort_by_key(|read| read.span.end);
        let mut ended = by_end.into_iter().peekable();
        let mut newest: Option<&Read> = None;
        for read in by_start {
            while let Some(before) = ended.next_if(|before| before.span.end < read.span.start) {
                if newest.is_none_or(|newest| newest.index < before.index) {
                    newest = Some(before);
                }
            }
            if let Some(newest) = newest {
                check.expect(read.index >= newest.index, || {
                    format!("{read:?} after {newest:?} on the same node")
                });
            }
        }
    }
    check
}
