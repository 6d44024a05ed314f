//! Many followers of a store's changes at once, to see what they cost its writers.
//!
//! `cargo run --release --example followers -- 127.0.0.1:8101 1000 kinds=order`
//!
//! Opens the feeds and reads them until standard input ends; then says how many bytes came and how
//! many feeds ended early. It does as little with them as can be: it shares its machine with the store.

use std::{
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

/// What all followers have come to.
#[derive(Debug, Default)]
struct Sum {
    bytes: AtomicU64,
    reads: AtomicU64,
    ended: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().context("the first argument is the address of a node")?;
    let count: usize = args.next().context("the second is how many follow")?.parse()?;
    let query = args.next().unwrap_or_default();
    let sum = Arc::new(Sum::default());
    for _ in 0..count {
        let stream = open(&address, &query).await?;
        tokio::spawn(follow(stream, Arc::clone(&sum)));
    }
    println!("{count} follow");
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let read = std::io::stdin().read_to_end(&mut rest);
        // Nobody waits any more when the program is about to end.
        let _ = end.send(read);
    });
    ended.await??;
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "{} bytes in {} reads, {} feeds ended early",
        of(&sum.bytes),
        of(&sum.reads),
        of(&sum.ended)
    );
    Ok(())
}

async fn open(address: &str, query: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /v1/changes?{query} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\
         accept-encoding: gzip\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 4096];
    let read = stream.read(&mut head).await?;
    let head = String::from_utf8_lossy(&head[..read]);
    ensure!(head.starts_with("HTTP/1.1 200 "), "no feed: {head}");
    Ok(stream)
}

async fn follow(mut stream: TcpStream, sum: Arc<Sum>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        sum.bytes.fetch_add(read as u64, Ordering::Relaxed);
        sum.reads.fetch_add(1, Ordering::Relaxed);
    }
    sum.ended.fetch_add(1, Ordering::Relaxed);
}
