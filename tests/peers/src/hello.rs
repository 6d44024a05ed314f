//! The simplest HTTP server there is, on one thread: what the generator can reach at most, and what it
//! costs.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Router, serve::ListenerExt};
use pygmy::bench::Store;
use tokio::sync::oneshot;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Hello {
    pub(crate) target: Store,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hello {
    pub(crate) fn start(timeout: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        listener.set_nonblocking(true)?;
        let address: SocketAddr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("hello".into()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let listener = listener.tap_io(|stream| {
                    // Only a matter of speed.
                    let _ = stream.set_nodelay(true);
                });
                let app = Router::new().fallback(async || "hello");
                tokio::select! {
                    _ = axum::serve(listener, app) => {}
                    _ = stopped => {}
                }
            });
        })?;
        let target = Store::unchecked(address, timeout);
        Ok(Self { target, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            // It can only have ended already.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use pygmy::bench::{End, Items, Mix, Plan, run};
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn the_generator_measures_it() {
        let hello = Hello::start(Duration::from_secs(5)).unwrap();
        let plan = Plan {
            mix: Mix::Get,
            items: Items { count: 10 },
            batch: 1,
            clients: 4,
            rate: None,
            warm_up: Duration::ZERO,
            length: Duration::from_millis(500),
            seed: 1,
        };
        let measuring = run(&hello.target, &plan, |_| {}, std::future::pending());
        let outcome = LocalSet::new().run_until(measuring).await.unwrap();
        assert_eq!((&outcome.end, outcome.total().failed()), (&End::Complete, 0));
        assert!(outcome.total().finished() > 100, "{}", outcome.json());
        assert!(outcome.processor_per_operation().unwrap() > Duration::ZERO);
    }
}
