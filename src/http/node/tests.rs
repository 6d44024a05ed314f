//! Tests of the node's router, without a socket.
