//! Stands in for a node's process in the tests: listens where its configuration says, and passes every
//! byte on to the store that the test keeps in memory (`FAKE_STORE`, one address per node).
//!
//! It can be killed, paused and restarted like a node, and has nothing of its own to lose.

use std::{env, fs, net::SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, serve, flag, config] = arguments.as_slice() else {
        return Err("usage: serve --config FILE".into());
    };
    assert_eq!((serve.as_str(), flag.as_str()), ("serve", "--config"));
    let config: toml::Table = fs::read_to_string(config)?.parse()?;
    let name = config["node"]["name"].as_str().ok_or("no name")?;
    let place: usize = name.trim_start_matches("node").parse()?;
    let stores = env::var("FAKE_STORE")?;
    let store: SocketAddr = stores.split(',').nth(place - 1).ok_or("no store")?.parse()?;
    let listen = config["api"]["listen"].as_str().ok_or("no address")?;
    println!("{name} listens on {listen}");
    let listener = TcpListener::bind(listen).await?;
    let mut stop = signal(SignalKind::terminate())?;
    loop {
        let (mut client, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = stop.recv() => return Ok(()),
        };
        client.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut store = TcpStream::connect(store).await?;
            store.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut store).await
        });
    }
}
