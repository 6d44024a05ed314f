//! Pygmy's replication.
