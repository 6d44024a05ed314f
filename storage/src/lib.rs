//! Pygmy's state machine and its storage.
