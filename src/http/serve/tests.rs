//! The server against clients that behave badly, on real sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// Far longer than any limit below: reaching it means that the server did nothing.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);
/// For the limits that a test is not about.
const LONG: Duration = Duration::from_secs(600);

struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<()>>,
    entered: Arc<AtomicUsize>,
    release: Arc<Notify>,
}

impl Running {
    async fn start(limits: Limits, drain: Duration) -> Self {
        let entered = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(Notify::new());
        let held = {
            let (entered, release) = (Arc::clone(&entered), Arc::clone(&release));
            move || async move {
                entered.fetch_add(1, Ordering::SeqCst);
                release.notified().await;
                "released"
            }
        };
        let app = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/held", get(held))
            .route("/flood", get(|| async { vec![b'x'; 64 << 20] }))
            .route("/length", post(|body: Bytes| async move { body.len().to_string() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(listener, app, limits, stopped, drain));
        Self { address, stop: Some(stop), served, entered, release }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn wait_entered(&self, count: usize) {
        while self.entered.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn ended(self) {
        timeout(PATIENCE, self.served).await.expect("the server ends").unwrap().unwrap();
    }
}

fn patient() -> Limits {
    Limits {
        first_byte_timeout: LONG,
        header_timeout: LONG,
        idle_timeout: LONG,
        body_timeout: LONG,
        write_timeout: LONG,
        ..Limits::default()
    }
}

/// Everything until the server closes, however it does that.
async fn read_all(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let _reset_is_an_end_too = read.expect("the server closes the connection");
    String::from_utf8(bytes).unwrap()
}

/// One reply on a connection that stays open; `end` is how its body ends.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut buf = [0; 4096];
        let read = timeout(PATIENCE, stream.read(&mut buf)).await.expect("a reply").unwrap();
        assert!(read > 0, "the server closed after {text:?}");
        text.push_str(std::str::from_utf8(&buf[..read]).unwrap());
    }
    text
}

fn problem_code(reply: &str) -> String {
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/problem+json"), "{reply}");
    assert!(head.contains("x-request-id: "), "{reply}");
    let problem: crate::api::Problem = serde_json::from_str(body).unwrap();
    assert!(problem.instance.is_some());
    assert!(head.starts_with(&format!("http/1.1 {}", problem.status)), "{reply}");
    problem.code
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = Running::start(Limits { first_byte_timeout: SHORT, ..patient() }, LONG).await;
    assert_eq!(read_all(server.connect().await).await, "");
}

#[tokio::test]
async fn a_header_section_that_never_ends_is_cut() {
    let server = Running::start(Limits { header_timeout: SHORT, ..patient() }, LONG).await;
    // The second looks like the beginning of HTTP/2, which hyper waits for without a limit.
    for start in [&b"GET / HTTP/1.1\r\nhost: x\r\n"[..], b"PRI * HT", b"G"] {
        assert_eq!(read_all(server.send(start).await).await, "", "{start:?}");
    }
}

#[tokio::test]
async fn a_header_section_that_drips_is_cut() {
    let server = Running::start(Limits { header_timeout: SHORT, ..patient() }, LONG).await;
    let mut stream = server.send(b"GET / HTTP/1.1\r\n").await;
    let cut = async {
        while stream.write_all(b"a: b\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    timeout(PATIENCE, cut).await.expect("dripping does not keep a connection open");
}

#[tokio::test]
async fn a_second_slow_header_section_on_a_connection_is_cut_too() {
    let server = Running::start(Limits { header_timeout: SHORT, ..patient() }, LONG).await;
    let mut stream = server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut stream, "hello").await;
    stream.write_all(b"GET / HTT").await.unwrap();
    assert_eq!(read_all(stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_and_then_ends() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: 20 * SHORT, ..patient() };
    let server = Running::start(limits, LONG).await;
    let mut stream = server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut stream, "hello").await;
    tokio::time::sleep(2 * SHORT).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    read_until(&mut stream, "hello").await;
    assert_eq!(read_all(stream).await, "");
}

#[tokio::test]
async fn a_body_that_pauses_fails_its_request() {
    let server = Running::start(Limits { body_timeout: SHORT, ..patient() }, LONG).await;
    let start =
        b"POST /length HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nab";
    let reply = read_all(server.send(start).await).await;
    assert!(reply.starts_with("HTTP/1.1 4"), "{reply}");
}

#[tokio::test]
async fn a_reply_that_nobody_reads_is_cut() {
    let server = Running::start(Limits { write_timeout: SHORT, ..patient() }, LONG).await;
    let mut stream = server.send(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // Nothing is read until the server has given up, which shows in a write that fails.
    let cut = async {
        while stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    timeout(PATIENCE, cut).await.expect("a reader that does not read is cut off");
}

#[tokio::test]
async fn too_large_header_sections_get_a_problem() {
    let limits = Limits { header_bytes_max: 8192, header_count_max: 20, ..patient() };
    let server = Running::start(limits, LONG).await;
    let long = |bytes| format!("a: {}\r\n", "x".repeat(bytes));
    let many = |count| (0..count).map(|n| format!("h{n}: x\r\n")).collect::<String>();
    // Twice what is allowed and more is refused by hyper, less by us.
    for headers in [long(9_000), long(100_000), many(30), many(200)] {
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        let reply = read_all(server.send(request.as_bytes()).await).await;
        assert_eq!(problem_code(&reply), "headers_too_large");
    }
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}\r\n", many(10));
    assert!(read_all(server.send(request.as_bytes()).await).await.ends_with("hello"));
}

#[tokio::test]
async fn bytes_that_are_no_request_get_a_problem() {
    let server = Running::start(patient(), LONG).await;
    let reply = read_all(server.send(b"\x16\x03\x01 nonsense\r\n\r\n").await).await;
    assert_eq!(problem_code(&reply), "malformed");
}

#[tokio::test]
async fn a_connection_over_the_bound_is_refused_and_one_that_ends_makes_room() {
    let server = Running::start(Limits { max_connections: 1, ..patient() }, LONG).await;
    let mut first = server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut first, "hello").await;
    let reply = read_all(server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert_eq!(problem_code(&reply), "overloaded");
    assert!(reply.contains("retry-after: "), "{reply}");
    drop(first);
    let served = async {
        loop {
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            if read_all(server.send(request).await).await.ends_with("hello") {
                return;
            }
        }
    };
    timeout(PATIENCE, served).await.expect("the place is free again");
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_closes_idle_connections() {
    let mut server = Running::start(patient(), LONG).await;
    let mut idle = server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut idle, "hello").await;
    let busy = server.send(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.wait_entered(1).await;
    server.stop();
    assert_eq!(read_all(idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err(), "the listener is closed");
    server.release.notify_one();
    assert!(read_all(busy).await.ends_with("released"));
    server.ended().await;
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_finish_in_time() {
    let mut server = Running::start(patient(), SHORT).await;
    let busy = server.send(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.wait_entered(1).await;
    server.stop();
    assert_eq!(read_all(busy).await, "");
    server.ended().await;
}

#[tokio::test]
async fn http2_is_served_on_the_same_port() {
    let server = Running::start(patient(), LONG).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let reply = client.get(format!("http://{}/", server.address)).send().await.unwrap();
    assert_eq!(reply.version(), http::Version::HTTP_2);
    assert_eq!(reply.text().await.unwrap(), "hello");
}
